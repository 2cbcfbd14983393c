"""The main job through the public API: real web, workers, queue and database."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import redis
import requests
from rq.suspension import resume, suspend
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

import post_api
import servers
from servers import Service

SUBMISSIONS = Path(__file__).parent / "submissions"
WAIT = 240  # seconds
N_CLIENTS = 8
N_FOLDS = 120
N_FOLDS_ON_POSTGRESQL = 80  # which serves many at once more easily


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on an embedded database and queue, and one on PostgreSQL with a queue server of its own."""
    home = tmp_path_factory.mktemp(request.param)
    url = request.getfixturevalue("postgres_server") if request.param == "postgresql" else ""
    with servers.service(home, DATABASE_URL=url) as running:
        yield running


def at(service: Service) -> tuple[str, str, str]:
    return service.base_url, *service.auth


def ok(answer: requests.Response) -> requests.Response:
    assert answer.ok, answer.text
    return answer


def post_iris(service: Service, folder: Path, name: str) -> tuple[int, pd.DataFrame]:
    """Post iris and its split; return its id, and the frame as the service reads it."""
    csv = datasets.load_iris(as_frame=True).frame.to_csv(index=False)
    (folder / "iris.csv").write_text(csv)
    data = ok(post_api.post_data(*at(service), name, "target", "classifier", str(folder / "iris.csv"))).json()
    ok(post_api.post_split(*at(service), 0.2, data["id"]))
    return data["id"], pd.read_csv(io.StringIO(csv))


def plain(frame: pd.DataFrame, train_is: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the submission `forest` predicts without datarun."""
    X, y = frame.drop(columns="target").to_numpy(), frame["target"].to_numpy()
    train, test = train_test_split(np.arange(len(frame)), test_size=0.2, random_state=42)
    clf = RandomForestClassifier(n_estimators=20, random_state=0).fit(X[train][train_is], y[train][train_is])
    return clf.predict_proba(X[train]), clf.predict_proba(X[test])


def test_many_folds_of_many_clients_are_each_tested_and_delivered_once(service: Service, tmp_path: Path) -> None:
    data_id, frame = post_iris(service, tmp_path, "iris")
    files = [str(SUBMISSIONS / "forest" / "classifier.py")]
    n_folds = N_FOLDS_ON_POSTGRESQL if service.environment["DATABASE_URL"] else N_FOLDS
    fold_ids = list(range(1000, 1000 + n_folds))
    rng = np.random.RandomState(0)
    train_is = {fold_id: rng.permutation(120)[:80] for fold_id in fold_ids}

    def post(fold_id: int) -> None:
        test_is = np.setdiff1d(np.arange(120), train_is[fold_id])
        priority = "H" if fold_id % 4 == 0 else "L"
        submission_id = fold_id % 10  # posted with its first fold, by whichever client is first
        ok(
            post_api.post_submission_fold(
                *at(service), submission_id, fold_id, train_is[fold_id], test_is, priority, data_id, files
            )
        )

    with ThreadPoolExecutor(N_CLIENTS) as clients:
        list(clients.map(post, fold_ids))
    states = post_api.wait_for_folds(*at(service), fold_ids, timeout=WAIT)
    assert set(states.values()) == {"TESTED"}

    delivered = []
    while answer := ok(post_api.get_prediction_new(*at(service), data_id)).json():
        delivered += [fold["databoard_sf_id"] for fold in answer]
    assert sorted(delivered) == fold_ids

    for fold in ok(post_api.get_prediction_list(*at(service), fold_ids[::20])).json():
        expected = plain(frame, train_is[fold["databoard_sf_id"]])
        for predictions, name in zip(expected, ("full_train_predictions", "test_predictions"), strict=True):
            np.testing.assert_array_equal(post_api.decode_predictions(fold[name], 3), predictions)


def test_high_priority_folds_go_first(service: Service, tmp_path: Path) -> None:
    data_id, _frame = post_iris(service, tmp_path, "iris_by_priority")
    files = [str(SUBMISSIONS / "forest" / "classifier.py")]
    low, high = list(range(2000, 2015)), list(range(2015, 2020))
    with redis.Redis.from_url(service.environment["REDIS_URL"]) as queue:
        suspend(queue)  # a worker that waits for a job already may take one more
        for fold_id in low + high:
            ok(
                post_api.post_submission_fold(
                    *at(service), 100, fold_id, np.arange(60), [], "H" if fold_id in high else "L", data_id, files
                )
            )
        resume(queue)
    assert set(post_api.wait_for_folds(*at(service), low + high, timeout=WAIT).values()) == {"TESTED"}
    started = {
        fold_id: ok(post_api.get_submission_fold_detail(*at(service), fold_id)).json()["started_at"]
        for fold_id in low + high
    }
    last_high = max(started[fold_id] for fold_id in high)
    n_workers = int(service.environment["WORKER_CONCURRENCY"])
    taken_at_the_same_time = n_workers - 1
    assert sum(started[fold_id] < last_high for fold_id in low) <= n_workers + taken_at_the_same_time


def test_states_appear_as_they_happen(service: Service, tmp_path: Path) -> None:
    data_id, _frame = post_iris(service, tmp_path, "iris_slowly")
    answer = post_api.post_submission_fold(
        *at(service), 200, 3000, np.arange(60), np.arange(60, 120), "H", data_id,
        [str(SUBMISSIONS / "slow_in_each_phase" / "classifier.py")],
    )  # fmt: skip
    assert ok(answer).json()["state"] == "TODO"
    seen = []

    def ended() -> bool:
        fold = ok(post_api.get_submission_fold_detail(*at(service), 3000)).json()
        if not seen or seen[-1]["state"] != fold["state"]:
            seen.append(fold)
        return fold["state"] in ("TESTED", "ERROR")

    servers.wait_until(ended, WAIT, "the fold has ended")
    assert [fold["state"] for fold in seen] == ["TODO", "TRAINED", "VALIDATED", "TESTED"]
    _todo, trained, validated, tested = seen
    assert trained["train_time"] == tested["train_time"] > 0
    assert validated["validation_time"] == tested["validation_time"] > 0
    assert trained["full_train_predictions"] is None


def test_a_data_set_has_limits_of_its_own(service: Service) -> None:
    csv = datasets.load_iris(as_frame=True).frame.to_csv(index=False)
    form = {
        "name": "iris_in_a_hurry",
        "target_column": "target",
        "workflow_elements": "classifier",
        "time_limit": "1.5",
    }
    url = f"{service.base_url}/runapp/rawdata/"
    data = ok(requests.post(url, data=form, files={"files": ("iris.csv", csv)}, auth=service.auth, timeout=30)).json()
    ok(post_api.post_split(*at(service), 0.2, data["id"]))
    files = [str(SUBMISSIONS / "sleeps_past_limit" / "classifier.py")]
    ok(post_api.post_submission_fold(*at(service), 300, 4000, np.arange(60), [], "H", data["id"], files))
    assert post_api.wait_for_folds(*at(service), [4000], timeout=WAIT) == {4000: "ERROR"}
    fold = ok(post_api.get_submission_fold_detail(*at(service), 4000)).json()
    assert fold["cause"] == "timeout"
    assert fold["log_messages"].splitlines()[-1] == "Killed after 1.5 s, the wall-clock limit, while training."
