"""SQLite under load: 4 workers and 8 clients with rows of 1 MB, and nobody is told of a lock."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import requests

import post_api
import servers
from servers import Service

N_ROWS = 100_000  # the predictions of a fold are 0.8 MB of noise, which no compression makes smaller
N_CLIENTS = 8
N_FOLDS = 24
WAIT = 120  # seconds
FACTOR = """
class Regressor:
    def fit(self, X, y):
        self.factor = y[0]

    def predict(self, X):
        return X[:, 0] * self.factor
"""


def test_no_client_is_told_of_a_lock(tmp_path: Path) -> None:
    columns = np.random.RandomState(0).rand(N_ROWS, 2)
    pd.DataFrame(columns, columns=["x", "target"]).to_csv(tmp_path / "noise.csv", index=False)
    (tmp_path / "regressor.py").write_text(FACTOR)
    with servers.service(tmp_path / "home", WORKER_CONCURRENCY="4", REDIS_URL="") as service:
        at = (service.base_url, *service.auth)
        data_id = post_api.post_data(*at, "noise", "target", "regressor", str(tmp_path / "noise.csv")).json()["id"]
        post_api.post_split(*at, 0.2, data_id).raise_for_status()

        def use(client: int) -> list[int]:
            """Post folds and read results, as a client does; return the statuses."""
            statuses = []
            for fold_id in range(client, N_FOLDS, N_CLIENTS):
                order = np.random.RandomState(fold_id).permutation(N_ROWS * 8 // 10)
                files = [str(tmp_path / "regressor.py")]
                answers = [
                    post_api.post_submission_fold(
                        *at, client, fold_id, order[1000:], order[:1000], "HL"[client % 2], data_id, files
                    ),
                    post_api.get_submission_fold_light(*at),
                    post_api.get_prediction_new(*at, data_id),
                ]
                statuses += [answer.status_code for answer in answers]
            return statuses

        with ThreadPoolExecutor(N_CLIENTS) as clients:
            statuses = [status for some in clients.map(use, range(N_CLIENTS)) for status in some]
        states = post_api.wait_for_folds(*at, list(range(N_FOLDS)), timeout=WAIT)
        assert statuses == [201, 200, 200] * N_FOLDS
        assert set(states.values()) == {"TESTED"}
        assert largest(service) > 0.8e6
    for log in ("web.log", "worker.log"):
        assert "locked" not in (tmp_path / "home" / log).read_text()


def largest(service: Service) -> int:
    """Return the bytes of the first fold's answer."""
    url = f"{service.base_url}/runapp/submissionfold/0/"
    return len(requests.get(url, auth=service.auth, timeout=WAIT).content)
