"""Each example of the 2016 documentation answers as that says, with real content in place of its dots.

The ids are the documentation's, except that its folds 10 and 11 are both 10 here, and its data set 8 is data set 1.
"""

import base64
import json
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

import servers
from client_2016 import _compress_indices
from servers import Service, wait_until

TIMEOUT = 60  # seconds
CSV = "width,species\n" + "".join(f"{width},{'setosa' if width % 2 else 'virginica'}\n" for width in range(20))
CLASSIFIER = """import sklearn.dummy


class Classifier(sklearn.dummy.DummyClassifier):
    pass
"""
RAW_DATA = {"name": "iris", "target_column": "species", "workflow_elements": "classifier", "files": {"iris.csv": CSV}}
FOLD = {
    "databoard_s_id": 24,
    "databoard_sf_id": 10,
    "raw_data": 1,
    "train_is": _compress_indices(np.arange(4)),
    "test_is": _compress_indices(np.arange(4, 6)),
    "priority": "L",
    "files": {"classifier.py": CLASSIFIER},
}
PREDICTIONS = {"databoard_sf_id", "databoard_s", "state", "log_messages", "full_train_predictions", "test_predictions"}
PREDICTIONS |= {"train_time", "validation_time", "test_time", "train_cpu_time", "test_cpu_time"}
PREDICTIONS |= {"train_memory", "test_memory"}
DETAIL = PREDICTIONS | {"train_is", "test_is", "priority", "task_id", "new"}


def send_by_curl(url: str, auth: tuple[str, str], body: Any) -> tuple[int, Any]:
    """Run the documented command; its GET is a word too much, which makes curl look for a host of that name first."""
    command = ["curl", "-u", ":".join(auth)]
    if body is None:
        command += ["GET", url]
    else:
        command += ["-H", "Content-Type: application/json", "-X", "POST", "-d", json.dumps(body), url]
    status = ["--write-out", "%{stderr}%{http_code} "]
    done = subprocess.run([*command, *status, "--silent"], capture_output=True, text=True, env={}, check=True)
    return int(done.stderr.split()[-1]), json.loads(done.stdout)


def send_by_requests(url: str, auth: tuple[str, str], body: Any) -> tuple[int, Any]:
    response = requests.get(url, auth=auth) if body is None else requests.post(url, auth=auth, json=body)
    return response.status_code, response.json()


def read_indices(text: str) -> list[int]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8").tolist()


@pytest.fixture
def fresh_service(tmp_path: Path) -> Any:
    with servers.service(tmp_path / "home") as service:
        yield service


@pytest.mark.parametrize(
    ("send", "split_path"),
    [
        pytest.param(
            send_by_curl,
            "rawdata/split/",
            id="curl",
            marks=pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl"),
        ),
        pytest.param(send_by_requests, "raw_data/split/", id="requests"),
    ],
)
def test_each_example_answers_as_documented(
    fresh_service: Service, send: Callable[..., tuple[int, Any]], split_path: str, subtests: pytest.Subtests
) -> None:
    def ask(path: str, body: Any = None) -> tuple[int, Any]:
        return send(f"{fresh_service.base_url}/runapp/{path}", fresh_service.auth, body)

    with subtests.test("create a new dataset"):
        status, raw_data = ask("rawdata/", RAW_DATA)
        assert (status, raw_data["id"]) == (201, 1)
        assert {name: raw_data[name] for name in RAW_DATA if name != "files"} == {
            "name": "iris",
            "target_column": "species",
            "workflow_elements": "classifier",
        }
    with subtests.test("list all raw dataset"):
        status, listed = ask("rawdata/")
        assert (status, [raw_data["name"] for raw_data in listed]) == (200, ["iris"])
    with subtests.test("split raw data into train and test datasets"):
        status, split = ask(split_path, {"random_state": 42, "held_out_test": 0.7, "raw_data_id": 1})
        assert (status, list(split)) == (200, ["task_id"])
    with subtests.test("create a submission on cv fold and the associated submission"):
        status, fold = ask("submissionfold/", FOLD)
        assert status == 201
        assert fold.keys() >= DETAIL
        assert {name: fold[name] for name in ("databoard_sf_id", "databoard_s", "priority", "state", "new")} == {
            "databoard_sf_id": 10,
            "databoard_s": 24,
            "priority": "L",
            "state": "TODO",
            "new": True,
        }
    wait_until(lambda: ask("submissionfold/10/")[1]["state"] in ("TESTED", "ERROR"), TIMEOUT, "fold 10 is final")
    with subtests.test("list all submission on cv fold"):
        status, folds = ask("submissionfold/")
        assert (status, [fold["databoard_sf_id"] for fold in folds]) == (200, [10])
        assert folds[0].keys() >= DETAIL
    with subtests.test("list main info about all submissions on cv fold"):
        status, folds = ask("submissionfold-light/")
        assert (status, folds) == (200, [{"databoard_sf_id": 10, "databoard_s": 24, "state": "TESTED", "new": True}])
    with subtests.test("retrieve a submission on cv fold to check its state"):
        status, fold = ask("submissionfold/10/")
        assert (status, fold["databoard_sf_id"], fold["state"]) == (200, 10, "TESTED")
        assert [read_indices(fold[name]) for name in ("train_is", "test_is")] == [[0, 1, 2, 3], [4, 5]]
    with subtests.test("retrieve predictions not yet requested, of a given data challenge"):
        status, new = ask("testpredictions/new/", {"raw_data_id": 1})
        assert (status, [fold["databoard_sf_id"] for fold in new]) == (200, [10])
    with subtests.test("retrieve predictions among a list of id"):
        status, listed = ask("testpredictions/list/", {"list_submission_fold": [1, 2, 10]})
        assert (status, [fold["databoard_sf_id"] for fold in listed]) == (200, [10])
        assert listed[0].keys() >= PREDICTIONS
        assert not listed[0].keys() & (DETAIL - PREDICTIONS)
