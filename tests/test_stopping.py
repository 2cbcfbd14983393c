"""What runs is stopped when its fold is cancelled, removed or replaced: web and workers as they run."""

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psutil
import pytest
import requests
from sklearn.datasets import load_iris

import post_api
import servers
from servers import Service, wait_until

SOON = 120  # seconds: a deadline, not a wait
BOTH = "submission, submission_fold"
# Prints the ids of its process and of a daemon that it starts; then neither ends by itself.
ENDLESS = """import os, time
class Classifier:
    def fit(self, X, y):
        daemon = os.fork()
        if not daemon:
            os.setsid()
        else:
            print(f"pids {os.getpid()} {daemon}", flush=True)
        time.sleep(10_000)
"""
QUICK = """import numpy as np
class Classifier:
    def fit(self, X, y):
        print("quick")
    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
"""
_ids = count(1)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("stopping")
    if request.param == "sqlite":
        with servers.service(home) as running:
            yield running
    else:
        server = request.getfixturevalue("postgres_server")
        with servers.postgres_database(server) as url, servers.service(home, DATABASE_URL=url) as running:
            yield running


class Endless:
    """A fold that runs, and will not end."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.user = (service.base_url, *service.auth)
        self.id = next(_ids)
        load_iris(as_frame=True).frame.to_csv(folder / "iris.csv", index=False)
        name = f"iris {self.id}"
        self.data = post_api.post_data(*self.user, name, "target", "classifier", folder / "iris.csv").json()["id"]
        assert post_api.post_split(*self.user, 0.2, self.data).ok
        assert self.post(folder, ENDLESS).status_code == 201
        self.pids = wait_until(self.printed_pids, SOON, "the log shows, while the fold runs, what it printed")
        assert all(map(psutil.pid_exists, self.pids))

    def post(self, folder: Path, code: str, force: str | None = None) -> requests.Response:
        path = folder / "classifier.py"
        path.write_text(code)
        return post_api.post_submission_fold(
            *self.user, self.id, self.id, range(90), [100], "L", self.data, [path], force
        )

    def get(self) -> dict:
        return post_api.get_submission_fold_detail(*self.user, self.id).json()

    def printed_pids(self) -> list[int]:
        fold = self.get()
        found = re.search(r"pids (\d+) (\d+)\n", fold["log_messages"] or "")
        if found:
            assert (fold["state"], fold["queue_position"], fold["attempts"]) == ("TODO", None, 1)
            assert fold["started_at"] >= fold["queued_at"] and fold["ended_at"] is None
        return list(map(int, found.groups())) if found else []

    def is_gone(self) -> bool:
        return not any(map(psutil.pid_exists, self.pids))


@pytest.fixture
def endless(service: Service, tmp_path: Path) -> Endless:
    return Endless(service, tmp_path)


def test_a_cancelled_fold_is_dead_with_its_daemons(endless: Endless) -> None:
    fold = post_api.cancel_submission_fold(*endless.user, endless.id).json()
    assert (fold["state"], fold["cause"]) == ("ERROR", "cancelled")
    assert fold["log_messages"].endswith(f"pids {endless.pids[0]} {endless.pids[1]}\nCancelled on request.")
    wait_until(endless.is_gone, SOON, "its processes are gone")
    assert endless.get() == fold


def test_a_removed_fold_is_dead_with_its_daemons(endless: Endless) -> None:
    assert post_api.delete_submission_fold(*endless.user, endless.id).status_code == 204
    wait_until(endless.is_gone, SOON, "its processes are gone")
    assert post_api.get_submission_fold_detail(*endless.user, endless.id).status_code == 404


def test_folds_of_a_data_set_removed_by_force_are_dead_with_their_daemons(endless: Endless) -> None:
    assert post_api.delete_raw_data(*endless.user, endless.data).status_code == 400
    assert post_api.delete_raw_data(*endless.user, endless.data, force=True).status_code == 204
    wait_until(endless.is_gone, SOON, "its processes are gone")
    assert endless.data not in [data["id"] for data in post_api.get_raw_data(*endless.user).json()]


def test_a_replaced_fold_is_dead_and_the_other_stands(endless: Endless, tmp_path: Path) -> None:
    assert endless.post(tmp_path, QUICK, BOTH).status_code == 201
    wait_until(endless.is_gone, SOON, "its processes are gone")
    assert post_api.wait_for_folds(*endless.user, [endless.id], SOON, 0.05) == {endless.id: "TESTED"}
    fold = endless.get()
    assert (fold["log_messages"], fold["attempts"]) == ("quick\n", 1)
    assert post_api.decode_predictions(fold["test_predictions"]).size == 30 * 3
