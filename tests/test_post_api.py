"""The client, against a small server that records what it is sent, and against the service."""

import base64
import inspect
import io
import json
import shutil
import subprocess
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from sklearn.model_selection import train_test_split
from werkzeug.formparser import parse_form_data

import post_api
from servers import Service

SIGNATURES = {
    "get_raw_data": "",
    "post_data": "data_name, target_column, workflow_elements, data_file, extra_files=None",
    "post_split": "held_out_test, raw_data_id, random_state=42",
    "custom_post_split": "raw_data_id",
    "get_submission_fold": "",
    "get_submission_fold_light": "",
    "get_submission_fold_detail": "submission_fold_id",
    "post_submission_fold": "sub_id, sub_fold_id, train_is, test_is, priority='L', raw_data_id=None, "
    "list_submission_files=None, force=None",
    "get_prediction_list": "list_submission_fold_id",
    "get_prediction_new": "raw_data_id=None",
}


class Recorder(ThreadingHTTPServer):
    """Keeps each request, its body in a file, and answers from `answers`: (status, JSON), None to hang up."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), RecorderHandler)
        self.folder = folder
        self.requests: list[dict[str, Any]] = []
        self.answers: list[tuple[int, Any] | None] = []

    @property
    def user(self) -> tuple[str, str, str]:
        return f"http://127.0.0.1:{self.server_port}/", "datarun", "pässwörd €"

    @property
    def last_json(self) -> Any:
        assert self.requests[-1]["headers"]["Content-Type"] == "application/json"
        return json.loads(self.requests[-1]["body"].read_bytes())


class RecorderHandler(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        body = self.server.folder / f"body_{len(self.server.requests)}"
        remaining = int(self.headers.get("Content-Length", 0))
        with body.open("wb") as file:
            while remaining:
                remaining -= file.write(self.rfile.read(min(remaining, 65536)))
        request = {"method": self.command, "path": self.path, "headers": self.headers, "body": body}
        self.server.requests.append(request)
        answer = self.server.answers.pop(0) if self.server.answers else (200, {})
        if answer is not None:
            content = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Recorder]:
    (folder := tmp_path / "bodies").mkdir()
    with Recorder(folder) as recorder:
        thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield recorder
        recorder.shutdown()
        thread.join()


def encode(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def decode_indices(text: str) -> list[int]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i8").tolist()


def light(**states: str) -> list[dict[str, Any]]:
    """The answer of submissionfold-light/ with folds f1, f2, ..."""
    return [
        {"databoard_sf_id": int(name[1:]), "databoard_s": 1, "state": state, "new": True}
        for name, state in states.items()
    ]


def test_all_functions_are_exported() -> None:
    functions = inspect.getmembers(post_api, inspect.isfunction)
    assert post_api.__all__ == [name for name, f in functions if f.__module__ == "post_api" and name[0] != "_"]


@pytest.mark.parametrize("function", SIGNATURES)
def test_signatures_are_those_of_the_documentation(function: str) -> None:
    parameters = inspect.signature(getattr(post_api, function)).parameters.values()
    shown = [f"{p.name}={p.default!r}" if p.default is not p.empty else p.name for p in parameters]
    assert ", ".join(shown) == ", ".join(filter(None, ["host_url, username, password", SIGNATURES[function]]))


@pytest.mark.parametrize(
    ("function", "arguments", "method", "path", "body"),
    [
        ("get_raw_data", (), "GET", "rawdata/", None),
        ("get_submission_fold", (), "GET", "submissionfold/", None),
        ("get_submission_fold_light", (), "GET", "submissionfold-light/", None),
        ("get_submission_fold_detail", (10,), "GET", "submissionfold/10/", None),
        ("get_submission_fold_detail", (np.int64(10),), "GET", "submissionfold/10/", None),
        ("get_prediction_list", ([1, 2, 10],), "POST", "testpredictions/list/", {"list_submission_fold": [1, 2, 10]}),
        ("get_prediction_list", (np.arange(2),), "POST", "testpredictions/list/", {"list_submission_fold": [0, 1]}),
        ("get_prediction_new", (1,), "POST", "testpredictions/new/", {"raw_data_id": 1}),
        ("get_prediction_new", (), "POST", "testpredictions/new/", {}),
        (
            "post_split",
            (0.7, 1),
            "POST",
            "rawdata/split/",
            {"held_out_test": 0.7, "raw_data_id": 1, "random_state": 42},
        ),
        (
            "post_split",
            (np.float32(0.5), np.uint8(1), 0),
            "POST",
            "rawdata/split/",
            {"held_out_test": 0.5, "raw_data_id": 1, "random_state": 0},
        ),
        ("custom_post_split", (1,), "POST", "rawdata/customsplit/", {"raw_data_id": 1}),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_function_sends_its_request(
    server: Recorder, function: str, arguments: tuple, method: str, path: str, body: Any, slash: str
) -> None:
    url, username, password = server.user
    server.answers = [(200, ["the answer"])]
    response = getattr(post_api, function)(url.rstrip("/") + slash, username, password, *arguments)
    (request,) = server.requests
    assert isinstance(response, requests.Response)
    assert response.json() == ["the answer"]
    assert (request["method"], request["path"]) == (method, f"/runapp/{path}")
    assert request["headers"]["Authorization"] == "Basic " + base64.b64encode("datarun:pässwörd €".encode()).decode()
    assert (server.last_json if body is not None else None) == body


def test_a_refusal_is_returned_as_an_answer(server: Recorder) -> None:
    server.answers = [(400, {"raw_data_id": ["no"]})]
    response = post_api.custom_post_split(*server.user, 3)
    assert (response.status_code, response.json()) == (400, {"raw_data_id": ["no"]})


def test_data_travel_by_name_and_encoded(server: Recorder, tmp_path: Path) -> None:
    (tmp_path / "iris.csv").write_bytes(b"a,species\n1,\xe9\n")
    (tmp_path / "specific.py").write_bytes(b"")
    post_api.post_data(
        *server.user, "iris", "species", "classifier", str(tmp_path / "iris.csv"), [tmp_path / "specific.py"]
    )
    assert server.last_json == {
        "name": "iris",
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"iris.csv": encode(b"a,species\n1,\xe9\n"), "specific.py": encode(b"")},
    }


def test_files_may_be_named_from_the_current_folder(
    server: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "iris.csv").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    post_api.post_data(*server.user, "iris", "species", "classifier", "iris.csv")
    assert server.last_json["files"] == {"iris.csv": encode(b"x")}


def test_large_data_travel_as_multipart(server: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_api, "LARGE_FILES", 200_000)
    content = np.random.default_rng(0).bytes(150_000)
    paths = [tmp_path / 'wéird "name".csv', tmp_path / "more.csv"]
    for path in paths:
        path.write_bytes(content)
    post_api.post_data(*server.user, "iris é", "species", "classifier", paths[0], paths[1:])
    (request,) = server.requests
    with request["body"].open("rb") as body:
        environ = {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": request["headers"]["Content-Type"],
            "CONTENT_LENGTH": request["headers"]["Content-Length"],
            "wsgi.input": body,
        }
        _, form, files = parse_form_data(environ)
        contents = [file.read() for file in files.getlist("files")]
    assert form.to_dict() == {"name": "iris é", "target_column": "species", "workflow_elements": "classifier"}
    assert [file.filename for file in files.getlist("files")] == ['wéird "name".csv', "more.csv"]
    assert contents == [content, content]


def test_large_data_do_not_pass_through_memory(server: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(64_000_000)
    tracemalloc.start()
    try:
        post_api.post_data(*server.user, "large", "y", "classifier", path)
        _, peak = tracemalloc.get_traced_memory()  # bytes
    finally:
        tracemalloc.stop()
    assert server.requests[0]["body"].stat().st_size > 64_000_000
    assert peak < 8_000_000


def test_a_file_that_becomes_shorter_while_sent_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"x" * 10)
    body = post_api._Multipart({}, [tmp_path / "data.csv"])
    (tmp_path / "data.csv").write_bytes(b"x")
    with pytest.raises(OSError, match=r"data\.csv became shorter while it was sent"):
        list(body)


def test_a_file_that_grows_while_sent_is_sent_as_announced(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"x" * 10)
    body = post_api._Multipart({}, [tmp_path / "data.csv"])
    (tmp_path / "data.csv").write_bytes(b"x" * 20)
    assert len(b"".join(body)) == len(body)


def test_files_of_the_same_name_are_refused(server: Recorder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"several files have the same name: a/classifier\.py, b/classifier\.py"):
        post_api.post_submission_fold(
            *server.user, 1, 1, [0], [1], list_submission_files=["a/classifier.py", "b/classifier.py"]
        )
    assert server.requests == []


def test_a_missing_file_is_an_error(server: Recorder, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        post_api.post_data(*server.user, "iris", "species", "classifier", tmp_path / "iris.csv")
    assert server.requests == []


def test_a_new_submission_travels_with_its_files_and_its_priority(server: Recorder, tmp_path: Path) -> None:
    (tmp_path / "classifier.py").write_bytes(b"import sklearn")
    post_api.post_submission_fold(
        *server.user,
        24,
        10,
        np.array([0, 2]),
        np.array([1]),
        priority="H",
        raw_data_id=8,
        list_submission_files=[str(tmp_path / "classifier.py")],
        force="submission_fold",
    )
    assert server.requests[0]["path"] == "/runapp/submissionfold/"
    assert server.last_json == {
        "databoard_s_id": 24,
        "databoard_sf_id": 10,
        "train_is": encode(np.array([0, 2], "<i8").tobytes()),
        "test_is": encode(np.array([1], "<i8").tobytes()),
        "priority": "H",
        "raw_data": 8,
        "files": {"classifier.py": encode(b"import sklearn")},
        "force": "submission_fold",
    }


def test_a_further_fold_travels_alone(server: Recorder) -> None:
    post_api.post_submission_fold(*server.user, 24, 11, [0], [1])
    assert set(server.last_json) == {"databoard_s_id", "databoard_sf_id", "train_is", "test_is", "priority"}
    assert server.last_json["priority"] == "L"


@pytest.mark.parametrize(
    "indices",
    [
        [0, 5, 3],
        (0, 5, 3),
        np.array([0, 5, 3], ">i4"),
        np.array([0, 5, 3], np.uint8),
        np.array([0, 9, 5, 9, 3])[::2],
        pd.Index([0, 5, 3]),
        pd.Series([0, 5, 3], index=[7, 8, 9]),
        [np.int16(0), 5, np.uint8(3)],
    ],
)
def test_any_sequence_of_integers_is_sent_as_int64(server: Recorder, indices: Any) -> None:
    post_api.post_submission_fold(*server.user, 1, 1, indices, range(2))
    assert decode_indices(server.last_json["train_is"]) == [0, 5, 3]
    assert decode_indices(server.last_json["test_is"]) == [0, 1]


@pytest.mark.parametrize("indices", [[], (), range(0), np.array([]), np.array([], int)])
def test_empty_indices_are_sent(server: Recorder, indices: Any) -> None:
    post_api.post_submission_fold(*server.user, 1, 1, [0], indices)
    assert decode_indices(server.last_json["test_is"]) == []


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([0.0, 1.0], TypeError, "test_is holds float64; expected integers"),
        (np.array([1], np.float32), TypeError, "test_is holds float32; expected integers"),
        ([True, False], TypeError, "test_is holds bool; expected integers"),
        (np.array([True]), TypeError, "test_is holds bool; expected integers"),
        ([1, True], TypeError, "test_is holds bool; expected integers"),
        (["1"], TypeError, "test_is holds <U1; expected integers"),
        ([None], TypeError, "test_is holds object; expected integers"),
        (3, ValueError, r"test_is has the shape \(\); expected a sequence of integers"),
        ([[1]], ValueError, r"test_is has the shape \(1, 1\); expected a sequence of integers"),
    ],
)
def test_other_indices_are_refused(server: Recorder, indices: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        post_api.post_submission_fold(*server.user, 1, 1, [0], indices)
    assert server.requests == []


def test_predictions_are_decoded() -> None:
    y = np.array([0.1, 0.9, -0.0, 1e300])
    text = encode(y.astype("<f8").tobytes())
    flat, table = post_api.decode_predictions(text), post_api.decode_predictions(text, n_columns=2)
    assert flat.dtype == table.dtype == np.float64
    assert flat.tobytes() == y.tobytes()
    assert table.tobytes() == y.tobytes()
    assert table.shape == (2, 2)
    flat[0] = 1  # may be written


@pytest.mark.parametrize(
    ("text", "n_columns", "error"),
    [
        (None, None, TypeError),
        ("%%%", None, ValueError),
        (base64.b64encode(b"not zlib").decode(), None, ValueError),
        (encode(b"1234567"), None, ValueError),
        (encode(bytes(24)), 2, ValueError),
    ],
)
def test_what_is_no_predictions_is_refused(text: Any, n_columns: int | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        post_api.decode_predictions(text, n_columns)


def test_waiting_ends_with_the_last_fold(server: Recorder) -> None:
    server.answers = [
        (200, light(f1="TODO", f2="TESTED", f3="TODO", f4="TODO", f5="TODO", f6="TODO", f7="TODO")),
        (200, light(f1="VALIDATED", f2="TESTED", f3="ERROR", f4="TESTED", f5="TESTED", f6="TRAINED", f7="TODO")),
        (200, {"databoard_sf_id": 1, "state": "TESTED"}),
        (200, {"databoard_sf_id": 6, "state": "ERROR"}),
    ]
    states = post_api.wait_for_folds(*server.user, np.arange(1, 7), interval=0.01)
    assert states == {1: "TESTED", 2: "TESTED", 3: "ERROR", 4: "TESTED", 5: "TESTED", 6: "ERROR"}
    assert [request["path"].removeprefix("/runapp/") for request in server.requests] == [
        "submissionfold-light/",
        "submissionfold-light/",
        "submissionfold/1/",
        "submissionfold/6/",
    ]


def test_waiting_for_no_fold_asks_nothing(server: Recorder) -> None:
    assert post_api.wait_for_folds(*server.user, []) == {}
    assert server.requests == []


def test_waiting_survives_an_outage(server: Recorder) -> None:
    server.answers = [(503, {}), None, (502, {}), (200, {"databoard_sf_id": 1, "state": "TESTED"})]
    assert post_api.wait_for_folds(*server.user, [1], interval=0.01) == {1: "TESTED"}


@pytest.mark.parametrize(("answer", "error"), [((503, {}), requests.HTTPError), (None, requests.ConnectionError)])
def test_waiting_ends_when_an_outage_lasts(
    server: Recorder, monkeypatch: pytest.MonkeyPatch, answer: Any, error: type[Exception]
) -> None:
    monkeypatch.setattr(post_api, "OUTAGE", 0.05)
    server.answers = [answer] * 1000
    with pytest.raises(error):
        post_api.wait_for_folds(*server.user, [1], interval=0.01)
    assert len(server.requests) > 1


def test_waiting_ends_at_once_when_refused(server: Recorder) -> None:
    server.answers = [(401, {"detail": "no"})]
    with pytest.raises(requests.HTTPError, match="401"):
        post_api.wait_for_folds(*server.user, [1])
    assert len(server.requests) == 1


def test_waiting_past_the_timeout_names_the_folds(server: Recorder) -> None:
    server.answers = [(200, light(f1="TODO", f2="TESTED", f3="TODO", f4="TODO", f5="TODO", f6="TODO"))] * 1000
    with pytest.raises(TimeoutError, match=r"After 0.1 s, these folds still wait: 1, 3, 4, 5, 6\."):
        post_api.wait_for_folds(*server.user, range(1, 7), timeout=0.1, interval=0.02)


@pytest.mark.parametrize(
    ("ids", "answers"),
    [(range(1, 7), [(200, light(f1="TODO", f2="TODO", f3="TODO"))]), ([4, 5, 6], [(404, {})] * 3)],
)
def test_waiting_for_folds_that_do_not_exist_is_an_error(server: Recorder, ids: Any, answers: list) -> None:
    server.answers = answers
    with pytest.raises(LookupError, match="There are no folds 4, 5, 6"):
        post_api.wait_for_folds(*server.user, ids)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stderr", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_progress_is_shown_on_a_terminal_alone(
    server: Recorder, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO, shown: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    server.answers = [(200, {"databoard_sf_id": i, "state": "TESTED"}) for i in (1, 2)]
    post_api.wait_for_folds(*server.user, [1, 2], interval=0.01)
    assert ("2/2" in stderr.getvalue()) == shown
    assert bool(stderr.getvalue()) == shown


def test_the_file_works_on_its_own_without_tqdm(server: Recorder, tmp_path: Path) -> None:
    shutil.copy(post_api.__file__, tmp_path)
    server.answers = [(200, {"databoard_sf_id": 1, "state": "TESTED"})]
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['tqdm'] = None\n"
        "import post_api; print(post_api.wait_for_folds(*sys.argv[2:], [1]))"
    )
    command = [sys.executable, "-I", "-c", program, str(tmp_path), *server.user]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{1: 'TESTED'}\n", "")


@pytest.mark.parametrize("large_files", [post_api.LARGE_FILES, 0], ids=["json", "multipart"])
def test_the_service_takes_what_the_client_sends(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large_files: int
) -> None:
    monkeypatch.setattr(post_api, "LARGE_FILES", large_files)
    user = (service.base_url, *service.auth)
    (tmp_path / "data.csv").write_text("a,y\n" + "".join(f"{i},{i}\n" for i in range(10)))
    (tmp_path / "regressor.py").write_text(
        "class Regressor:\n    def fit(self, X, y):\n        pass\n    def predict(self, X):\n        return X[:, 0]\n"
    )
    name, i = f"data {large_files}", large_files + 1
    raw_data = post_api.post_data(*user, name, "y", "regressor", tmp_path / "data.csv").json()
    assert post_api.post_split(*user, 0.4, raw_data["id"], random_state=0).status_code == 200
    files = [tmp_path / "regressor.py"]
    posted = post_api.post_submission_fold(*user, i, i, range(3), [5, 4], "H", raw_data["id"], files)
    assert (posted.status_code, posted.json()["priority"]) == (201, "H")
    assert decode_indices(posted.json()["test_is"]) == [5, 4]
    assert post_api.wait_for_folds(*user, [i], timeout=60, interval=0.05) == {i: "TESTED"}
    replaced = post_api.post_submission_fold(*user, i, i, range(2), [], force="submission_fold")
    assert (replaced.status_code, replaced.json()["priority"]) == (201, "L")
    assert post_api.wait_for_folds(*user, [i], timeout=60, interval=0.05) == {i: "TESTED"}
    (fold,) = post_api.get_prediction_new(*user, raw_data["id"]).json()
    train_is, test_is = train_test_split(np.arange(10), test_size=0.4, random_state=0)
    assert post_api.decode_predictions(fold["full_train_predictions"]).tolist() == train_is.tolist()
    assert post_api.decode_predictions(fold["test_predictions"], 1).tolist() == [[row] for row in test_is]
