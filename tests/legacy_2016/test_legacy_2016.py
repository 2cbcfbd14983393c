"""The client of the 2016 service, ported and otherwise as it was, works against today's service."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from sklearn.datasets import load_iris
from sklearn.model_selection import KFold, train_test_split
from threadpoolctl import threadpool_limits

import client_2016
from servers import Service, wait_until

SUBMISSIONS = {
    1: """from sklearn.ensemble import RandomForestClassifier


class Classifier(RandomForestClassifier):
    def __init__(self):
        super().__init__(n_estimators=20, random_state=57)
""",
    2: """from sklearn.linear_model import LogisticRegression


class Classifier(object):
    def fit(self, X, y):
        self.clf = LogisticRegression(C=0.3, max_iter=500, random_state=57)
        self.clf.fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
""",
}
FAILING = "class Classifier(object):\n    pass\n"
N_FOLDS = 3
TIMEOUT = 60  # seconds for a few small folds
# What an answer of testpredictions carries, in the words of the documentation
ATTRIBUTES = {
    "databoard_sf_id",
    "databoard_s",
    "state",
    "log_messages",
    "full_train_predictions",
    "test_predictions",
    "train_time",
    "validation_time",
    "test_time",
    "train_cpu_time",
    "test_cpu_time",
    "train_memory",
    "test_memory",
}


@pytest.fixture
def iris(tmp_path: Path) -> Path:
    """A CSV file of iris, the species by name in its last column."""
    bunch = load_iris(as_frame=True)
    frame = bunch.data.assign(species=bunch.target_names[bunch.target])
    frame.to_csv(tmp_path / "iris.csv", index=False)
    return tmp_path / "iris.csv"


def user_of(service: Service) -> tuple[str, str, str]:
    return f"{service.base_url}/", *service.auth


def write_classifier(folder: Path, code: str) -> str:
    folder.mkdir()
    (folder / "classifier.py").write_text(code)
    return str(folder / "classifier.py")


def wait_for(service: Service, *ids: int) -> dict[int, str]:
    """Poll the light list as databoard did; return the final states of these folds."""

    def final_states() -> dict[int, str] | None:
        folds = client_2016.get_submission_fold_light(*user_of(service)).json()
        states = {fold["databoard_sf_id"]: fold["state"] for fold in folds}
        return {i: states[i] for i in ids} if {states[i] for i in ids} <= {"TESTED", "ERROR"} else None

    return wait_until(final_states, TIMEOUT, f"folds {ids} are final")


@threadpool_limits.wrap(limits=1)
def fit_here(classifier: str, X: np.ndarray, y: np.ndarray, parts: list, fold_train_is: np.ndarray) -> tuple:
    """Return the probabilities of the training and of the held-out rows by plain scikit-learn in this process."""
    spec = importlib.util.spec_from_file_location("classifier", classifier)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    train_is, test_is = parts
    X_train, y_train = X[train_is], y[train_is]
    clf = module.Classifier()
    clf.fit(X_train[fold_train_is], y_train[fold_train_is])
    return clf.predict_proba(X_train), clf.predict_proba(X[test_is])


def test_the_2016_client_gets_what_scikit_learn_gives(service: Service, iris: Path, tmp_path: Path) -> None:
    user = user_of(service)
    answer = client_2016.post_data(*user, "iris", "species", "classifier", str(iris))
    assert answer.status_code == 201
    raw_data_id = answer.json()["id"]
    body = {"random_state": 42, "held_out_test": 0.7, "raw_data_id": raw_data_id}
    answer = requests.post(f"{user[0]}runapp/raw_data/split/", auth=service.auth, json=body)
    assert answer.status_code == 200
    assert isinstance(answer.json()["task_id"], str)

    frame = pd.read_csv(iris)
    X, y = frame.drop(columns="species").to_numpy(), frame["species"].to_numpy()
    parts = train_test_split(np.arange(len(y)), test_size=0.7, random_state=42)
    cv = list(KFold(N_FOLDS, shuffle=True, random_state=57).split(parts[0]))
    expected = {}
    for submission, code in SUBMISSIONS.items():
        classifier = write_classifier(tmp_path / f"submission_{submission}", code)
        for k, (train_is, test_is) in enumerate(cv):
            new = {"raw_data_id": raw_data_id, "list_submission_files": [classifier]} if k == 0 else {}
            fold = 10 * submission + k
            answer = client_2016.post_submission_fold(*user, submission, fold, train_is, test_is, **new)
            assert answer.status_code == 201
            assert answer.json()["databoard_sf_id"] == fold
            assert answer.json()["priority"] == "L"
            expected[fold] = fit_here(classifier, X, y, parts, train_is)
    assert set(wait_for(service, *expected).values()) == {"TESTED"}

    first, rest = list(expected)[:2], list(expected)[2:]
    listed = client_2016.get_prediction_list(*user, first).json()
    new = client_2016.get_prediction_new(*user, raw_data_id).json()
    assert [fold["databoard_sf_id"] for fold in listed] == first
    assert sorted(fold["databoard_sf_id"] for fold in new) == rest
    assert client_2016.get_prediction_new(*user, raw_data_id).json() == []
    for fold in listed + new:
        assert fold.keys() >= ATTRIBUTES
        assert fold["databoard_s"] == fold["databoard_sf_id"] // 10
        predictions = [
            client_2016.decompress_predictions(fold[name]) for name in ("full_train_predictions", "test_predictions")
        ]
        for got, wanted in zip(predictions, expected[fold["databoard_sf_id"]], strict=True):
            assert got.reshape(-1, 3).shape == wanted.shape
            assert got.tobytes() == wanted.tobytes()


def test_new_predictions_are_those_not_delivered(service: Service, iris: Path, tmp_path: Path) -> None:
    user = user_of(service)
    raw_data_ids = []
    for n, name in enumerate(["one", "other"]):
        raw_data_ids.append(client_2016.post_data(*user, name, "species", "classifier", str(iris)).json()["id"])
        body = {"random_state": 42, "held_out_test": 0.2, "raw_data_id": raw_data_ids[-1]}
        requests.post(f"{user[0]}runapp/rawdata/split/", auth=service.auth, json=body).raise_for_status()
        for k, code in enumerate([SUBMISSIONS[1], FAILING]):
            s_id = 100 + 10 * n + k
            files = [write_classifier(tmp_path / f"submission_{s_id}", code)]
            post = (np.arange(80), np.arange(80, 120), "L", raw_data_ids[-1], files)
            assert client_2016.post_submission_fold(*user, s_id, s_id, *post).status_code == 201
    states = wait_for(service, 100, 101, 110, 111)
    assert states == {100: "TESTED", 101: "ERROR", 110: "TESTED", 111: "ERROR"}

    def get_new() -> list[list[int]]:
        answers = [client_2016.get_prediction_new(*user, i).json() for i in raw_data_ids]
        return [[fold["databoard_sf_id"] for fold in answer] for answer in answers]

    assert get_new() == [[100], [110]]
    assert get_new() == [[], []]
    client_2016.post_submission_fold(*user, 100, 102, np.arange(40), np.arange(40, 120))
    wait_for(service, 102)
    light = {fold["databoard_sf_id"]: fold for fold in client_2016.get_submission_fold_light(*user).json()}
    assert light[102] == {"databoard_sf_id": 102, "databoard_s": 100, "state": "TESTED", "new": True}
    assert light[100]["new"] is False
    assert get_new() == [[102], []]
    assert client_2016.get_submission_fold_detail(*user, 102).json()["new"] is False
