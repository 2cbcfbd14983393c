"""Submission folds through the API."""

import io
import json

import numpy as np
import psycopg
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from posts import IRIS, NEW_FOLD, SUBMISSION, at_once, counts, encode, encode_indices, finish, pieces, set_split
from sqlalchemy import select, update

import schemas
from api.streams import BATCH
from api.submissionfold import find_row
from models import Content, State, SubmissionFile, SubmissionFold, db, writing

URL = "/runapp/submissionfold/"
CHANGED = SUBMISSION | {"classifier.py": "class Classifier: changed = True"}
BOTH = "submission, submission_fold"


@pytest.fixture(autouse=True)
def iris(client: FlaskClient, app: Flask) -> None:
    """A data set whose split is made: 6 rows to train on."""
    client.post("/runapp/rawdata/", json=IRIS)
    set_split(app, split_state=State.DONE, n_train=6, n_test=2)


def state_of_everything(app: Flask, queue: redis.Redis) -> tuple:
    with app.app_context():
        folds = db.session.execute(select(SubmissionFold.databoard_sf_id, SubmissionFold.task_id)).all()
        files = db.session.execute(select(SubmissionFile.name, SubmissionFile.sha256)).all()
    return counts(app, queue), folds, files


def test_a_fold_and_its_submission_are_created(
    database_url: str, client: FlaskClient, app: Flask, queue: redis.Redis
) -> None:
    answer = client.post(URL, json=NEW_FOLD)
    assert answer.status_code == 201
    fold = answer.json
    assert fold.pop("queued_at").endswith("+00:00")
    assert queue.lrange("rq:queue:low", 0, -1) == [fold.pop("task_id").encode()]
    assert schemas.unpack_indices(schemas.base64.b64decode(fold.pop("train_is"))).tolist() == [0, 1]
    assert schemas.unpack_indices(schemas.base64.b64decode(fold.pop("test_is"))).tolist() == [2]
    numbers = ("train_time", "validation_time", "test_time", "train_cpu_time", "test_cpu_time")
    assert fold == {
        "databoard_sf_id": 11,
        "databoard_s": 24,
        "priority": "L",
        "state": "TODO",
        "new": True,
        "attempts": 0,
        **dict.fromkeys((*numbers, "train_memory", "test_memory"), 0.0),
        **dict.fromkeys(("full_train_predictions", "test_predictions", "log_messages", "cause", "isolation")),
        **dict.fromkeys(("versions", "submission_hash", "raw_data_hash")),
        **dict.fromkeys(("started_at", "ended_at", "predictions_shape", "classes")),
    }
    posted = client.get(f"{URL}11/").json
    assert posted == answer.json | {"queue_position": 0}
    assert client.get(URL).json == [answer.json]
    light = [{"databoard_sf_id": 11, "databoard_s": 24, "state": "TODO", "new": True}]
    assert client.get("/runapp/submissionfold-light/").json == light


def test_a_fold_of_high_priority_goes_to_the_high_queue(client: FlaskClient, queue: redis.Redis) -> None:
    task_id = client.post(URL, json=NEW_FOLD | {"priority": "H"}).json["task_id"]
    assert queue.lrange("rq:queue:high", 0, -1) == [task_id.encode()]


def test_a_further_fold_needs_no_files(client: FlaskClient) -> None:
    client.post(URL, json=NEW_FOLD)
    further = {"databoard_sf_id": 12, "databoard_s_id": 24, "train_is": encode_indices(0, 0, 1), "test_is": []}
    assert client.post(URL, json=further).status_code == 201
    assert client.post(URL, json=NEW_FOLD | {"databoard_sf_id": 13}).status_code == 201


@pytest.mark.parametrize("indices", [encode_indices(3, 1), "[3, 1]"])
def test_a_fold_may_come_as_a_form(client: FlaskClient, indices: str) -> None:
    client.post(URL, json=NEW_FOLD)
    form = {"databoard_sf_id": "12", "databoard_s_id": "24", "train_is": indices, "test_is": "[]"}
    answer = client.post(URL, data=form)
    assert answer.status_code == 201
    assert (
        answer.json["train_is"]
        == client.post(URL, json=NEW_FOLD | {"databoard_sf_id": 13, "train_is": [3, 1]}).json["train_is"]
    )


def test_a_fold_may_come_with_uploaded_files(client: FlaskClient) -> None:
    files = [(io.BytesIO(content.encode()), name) for name, content in SUBMISSION.items()]
    form = NEW_FOLD | {"files": files, "train_is": json.dumps([0] * 200_000), "test_is": "[1]"}
    assert client.post(URL, data=form).status_code == 201


def test_a_fold_waits_for_its_split(client: FlaskClient, app: Flask, queue: redis.Redis) -> None:
    set_split(app, split_state=State.TODO, n_train=None)
    answer = client.post(URL, json=NEW_FOLD | {"train_is": [10**15]})
    assert answer.status_code == 201
    assert queue.llen("rq:queue:low") == 0


def test_a_fold_is_accepted_without_a_queue(config: object, client: FlaskClient, app: Flask) -> None:
    app.extensions["datarun_queue"] = redis.Redis(port=1)
    assert client.post(URL, json=NEW_FOLD).status_code == 201
    assert client.get(f"{URL}11/").json["state"] == "TODO"


def test_a_fold_of_data_never_split_is_refused(client: FlaskClient, app: Flask, queue: redis.Redis) -> None:
    set_split(app, split_state=None)
    before = state_of_everything(app, queue)
    answer = client.post(URL, json=NEW_FOLD)
    expected = "Raw data 1 was never split; expected /runapp/rawdata/split/ before its folds."
    assert (answer.status_code, answer.json) == (400, {"raw_data": [expected]})
    assert state_of_everything(app, queue) == before


def test_a_fold_of_data_whose_split_failed_is_refused(client: FlaskClient, app: Flask) -> None:
    set_split(app, split_state=State.ERROR, log_messages="Traceback\nThe CSV has no rows.\n")
    answer = client.post(URL, json=NEW_FOLD)
    expected = 'The split of raw data 1 ended in ERROR ("The CSV has no rows."); expected a split that succeeded.'
    assert (answer.status_code, answer.json) == (400, {"raw_data": [expected]})


INTEGER = "is no such integer; expected one from 0 to 9223372036854775807."
INDICES = "expected integers from 0 to 9223372036854775807."
ENCODING = "expected base64(zlib(little-endian int64))."
NEEDED = "expected feature_extractor.py, classifier.py for the workflow of iris."
NEW = "expected raw_data and files with a new one."
FORCES = 'expected "submission_fold" or "submission, submission_fold".'
FIELDS = "databoard_sf_id, databoard_s_id, train_is, test_is, priority, raw_data, files, force."
REQUIRED = ["This field is required."]
NULL = ["This field may not be null."]
REFUSED = [
    ({"databoard_sf_id": None}, {"databoard_sf_id": NULL}),
    (
        {"databoard_s_id": None, "train_is": None, "test_is": None},
        dict.fromkeys(("databoard_s_id", "train_is", "test_is"), NULL),
    ),
    ({"priority": None}, {"priority": NULL}),
    *(
        ({"databoard_sf_id": value}, {"databoard_sf_id": [f"{schemas.shown(value)} {INTEGER}"]})
        for value in (-1, 2**63, True, 1.0, "11", [1])
    ),
    ({"databoard_s_id": "x"}, {"databoard_s_id": [f'"x" {INTEGER}']}),
    ({"raw_data": "iris"}, {"raw_data": [f'"iris" {INTEGER}']}),
    ({"raw_data": 7}, {"raw_data": ["There is no raw data 7; expected the id of a data set."]}),
    ({"raw_data": None}, {"raw_data": ["This field is required with a new submission."]}),
    ({"files": None}, {"files": ["This field is required with a new submission."]}),
    ({"files": None, "raw_data": None}, {"databoard_s_id": [f"There is no submission 24; {NEW}"]}),
    ({"files": {}}, {"files": ["{} holds no files; expected an object of file names and contents."]}),
    ({"files": {"classifier.py": "x"}}, {"files": [f"feature_extractor.py is missing; {NEEDED}"]}),
    ({"files": {"x.py": "x"}}, {"files": [f"feature_extractor.py, classifier.py are missing; {NEEDED}"]}),
    ({"files": SUBMISSION | {"classifier.py": ""}}, {"files": ["classifier.py is empty; expected Python code."]}),
    (
        {"files": SUBMISSION | {"a/b.py": ""}},
        {"files": ['The file name "a/b.py" is no plain file name; expected a safe file name.']},
    ),
    ({"priority": "M"}, {"priority": ['"M" means nothing; expected "L" or "H".']}),
    ({"priority": 1}, {"priority": ['1 means nothing; expected "L" or "H".']}),
    *(
        ({"force": value}, {"force": [f"{schemas.shown(value)} means nothing; {FORCES}"]})
        for value in ("submission", "", True)
    ),
    ({"train_is": []}, {"train_is": ["There is no index; expected at least one row to train on."]}),
    (
        {"train_is": [-1, 2, -5]},
        {"train_is": ["2 indices are negative; the first is -1. Expected rows counted from 0."]},
    ),
    (
        {"train_is": encode_indices(-3)},
        {"train_is": ["1 index is negative; the first is -3. Expected rows counted from 0."]},
    ),
    *(
        ({"train_is": [0, value]}, {"train_is": [f"{schemas.shown(value)} is no index; {INDICES}"]})
        for value in (1.0, True, "1", None, 2**63)
    ),
    ({"train_is": 3}, {"train_is": ["3 is no indices; expected an encoded string or a list of integers."]}),
    ({"train_is": [0, 6, 7]}, {"train_is": ["2 indices are out of range; the first is 6. Expected rows from 0 to 5."]}),
    ({"test_is": [6]}, {"test_is": ["1 index is out of range; the first is 6. Expected rows from 0 to 5."]}),
    ({"test_is": [3, 3, 4]}, {"test_is": ["1 index is repeated in test_is; the first is 3. Expected each once."]}),
    (
        {"train_is": [3, 4, 3], "test_is": [4, 3]},
        {"test_is": ["2 indices are in both train_is and test_is; the first is 3."]},
    ),
    ({"train_is": "0,1"}, {"train_is": [f"The string is corrupt: not base64; {ENCODING}"]}),
    ({"train_is": ""}, {"train_is": [f"The string is corrupt: not base64; {ENCODING}"]}),
    ({"train_is": "AAAA"}, {"train_is": [f"The string is corrupt: not what zlib compressed; {ENCODING}"]}),
    ({"train_is": encode_indices(0)[:12]}, {"train_is": [f"The string is corrupt: its end is missing; {ENCODING}"]}),
    ({"train_is": encode(b"123")}, {"train_is": ["The string unpacks to 3 bytes; expected 8 for each index."]}),
    ({"train_is": encode(bytes(64_000_001))}, {"train_is": [f"The string unpacks to more than 64 MB; {ENCODING}"]}),
    ({"fold": 1}, {"fold": ["Unknown field; expected some of " + FIELDS]}),
]


@pytest.mark.parametrize(("change", "errors"), REFUSED)
def test_a_wrong_fold_is_refused(
    client: FlaskClient, app: Flask, queue: redis.Redis, change: dict, errors: dict
) -> None:
    before = state_of_everything(app, queue)
    answer = client.post(URL, json=NEW_FOLD | change)
    assert (answer.status_code, answer.json) == (400, errors)
    assert state_of_everything(app, queue) == before


def test_missing_fields_are_refused(client: FlaskClient) -> None:
    answer = client.post(URL, json={})
    fields = ("databoard_sf_id", "databoard_s_id", "train_is", "test_is")
    assert (answer.status_code, answer.json) == (400, dict.fromkeys(fields, REQUIRED))


# ---- force


@pytest.fixture
def folds(client: FlaskClient, iris: None) -> dict[int, str]:
    """Two folds of submission 24 and one of 25; their task ids."""
    for fold_id, submission_id in ((11, 24), (12, 24), (13, 25)):
        client.post(URL, json=NEW_FOLD | {"databoard_sf_id": fold_id, "databoard_s_id": submission_id})
    return {fold["databoard_sf_id"]: fold["task_id"] for fold in client.get(URL).json}


EXPECTED_FORCE = "force to be 'submission, submission_fold'."
DIFFER = {"files": [f"The files differ from those of submission 24; expected the same, or {EXPECTED_FORCE}"]}
EXISTS = {"databoard_sf_id": ["SubmissionFold with this databoard_sf_id already exists."]}
OTHER = {
    "databoard_s_id": [
        "Submission fold 13 is one of submission 25; expected that submission, or another databoard_sf_id."
    ]
}


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({}, EXISTS),
        ({"databoard_sf_id": 14, "files": CHANGED}, DIFFER),
        ({"files": CHANGED, "force": "submission_fold"}, DIFFER),
        (
            {"databoard_sf_id": 14, "raw_data": 2},
            {"raw_data": [f"Submission 24 is one of raw data 1, not 2; expected that, or {EXPECTED_FORCE}"]},
        ),
        ({"databoard_sf_id": 13}, EXISTS),
        ({"databoard_sf_id": 13, "force": "submission_fold"}, OTHER),
        ({"databoard_sf_id": 13, "force": BOTH}, OTHER),
    ],
)
def test_what_force_does_not_allow_is_refused(
    client: FlaskClient, app: Flask, queue: redis.Redis, folds: dict, change: dict, errors: dict
) -> None:
    before = state_of_everything(app, queue)
    answer = client.post(URL, json=NEW_FOLD | change)
    assert (answer.status_code, answer.json) == (400, errors)
    assert state_of_everything(app, queue) == before


@pytest.mark.parametrize("force", ["submission_fold", BOTH])
def test_forcing_ids_that_do_not_exist_is_no_error(client: FlaskClient, force: str) -> None:
    assert client.post(URL, json=NEW_FOLD | {"force": force}).status_code == 201


def task_ids(client: FlaskClient) -> dict[int, str]:
    return {fold["databoard_sf_id"]: fold["task_id"] for fold in client.get(URL).json}


@pytest.mark.parametrize("force", ["submission_fold", BOTH])
def test_a_forced_fold_is_replaced_alone(
    database_url: str, client: FlaskClient, app: Flask, folds: dict, force: str
) -> None:
    finish(app, 11, 12)
    answer = client.post(URL, json=NEW_FOLD | {"force": force, "train_is": [5]})
    assert answer.status_code == 201
    assert task_ids(client) == folds | {11: answer.json["task_id"]}
    assert folds[11] != answer.json["task_id"]
    assert (answer.json["state"], answer.json["test_predictions"]) == ("TODO", None)
    assert client.get(f"{URL}12/").json["state"] == "TESTED"


def test_a_forced_submission_with_other_files_loses_its_other_folds(
    database_url: str, client: FlaskClient, app: Flask, folds: dict
) -> None:
    answer = client.post(URL, json=NEW_FOLD | {"force": BOTH, "files": CHANGED})
    assert answer.status_code == 201
    assert task_ids(client) == {11: answer.json["task_id"], 13: folds[13]}
    with app.app_context():
        assert len(db.session.scalars(select(Content.sha256)).all()) == 4  # the CSV, two old files of 25, the new one


def test_a_forced_submission_may_move_to_other_data(client: FlaskClient, app: Flask, folds: dict) -> None:
    client.post("/runapp/rawdata/", json=IRIS | {"name": "other"})
    set_split(app, 2, split_state=State.DONE, n_train=6)
    answer = client.post(URL, json=NEW_FOLD | {"force": BOTH, "raw_data": 2})
    assert answer.status_code == 201
    assert task_ids(client) == {11: answer.json["task_id"], 13: folds[13]}


# ---- at the same instant


def test_of_posts_of_one_fold_at_the_same_instant_one_wins(
    database_url: str, client: FlaskClient, app: Flask, queue: redis.Redis
) -> None:
    answers = at_once(app, client, [lambda own: own.post(URL, json=NEW_FOLD)] * 6)
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 5
    assert [answer.json for answer in answers if answer.status_code == 400] == [EXISTS] * 5
    assert queue.llen("rq:queue:low") == 1


def test_folds_of_one_new_submission_at_the_same_instant_are_all_taken(
    database_url: str, client: FlaskClient, app: Flask
) -> None:
    posts = [lambda own, i=i: own.post(URL, json=NEW_FOLD | {"databoard_sf_id": i}) for i in range(6)]
    assert [answer.status_code for answer in at_once(app, client, posts)] == [201] * 6


def test_forced_posts_at_the_same_instant_leave_one_fold(database_url: str, client: FlaskClient, app: Flask) -> None:
    posts = [
        lambda own, i=i: own.post(URL, json=NEW_FOLD | {"force": BOTH, "files": SUBMISSION | {"a.txt": str(i % 2)}})
        for i in range(6)
    ]
    answers = at_once(app, client, posts)
    assert [answer.status_code for answer in answers] == [201] * 6
    [fold] = client.get(URL).json
    assert fold["task_id"] in [answer.json["task_id"] for answer in answers]


# ---- reading


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_times_are_in_utc_whatever_the_zone_of_the_database(database_url: str, client: FlaskClient, app: Flask) -> None:
    with psycopg.connect(database_url, autocommit=True) as operator:
        operator.execute(f"ALTER DATABASE {operator.info.dbname} SET timezone = 'Asia/Kolkata'")
    with app.app_context():
        db.engine.dispose()
    assert client.post(URL, json=NEW_FOLD).json["queued_at"].endswith("+00:00")


@pytest.mark.parametrize("fold_id", ["12", str(2**63 - 1), str(2**63), "x", "-1", "1.5"])
def test_an_unknown_fold_is_not_found(client: FlaskClient, fold_id: str) -> None:
    answer = client.get(f"{URL}{fold_id}/")
    assert answer.status_code == 404
    assert list(answer.json) == ["detail"]


def test_long_lists_come_in_pages(
    database_url: str, client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.streams.PAGE", 2)
    monkeypatch.setattr("api.streams.BATCH", 1)
    for fold_id in (5, 3, 9, 2**63 - 1, 0):
        client.post(URL, json=NEW_FOLD | {"databoard_sf_id": fold_id})
    for url in (URL, "/runapp/submissionfold-light/"):
        assert [fold["databoard_sf_id"] for fold in client.get(url).json] == [0, 3, 5, 9, 2**63 - 1]


def test_lists_of_long_logs_come_in_small_pieces(
    database_url: str, client: FlaskClient, app: Flask, folds: dict
) -> None:
    with app.app_context(), writing():
        db.session.execute(update(SubmissionFold).values(log_messages="\N{REPLACEMENT CHARACTER}" * 200_000))
    assert max(pieces(client.get(URL))) < BATCH


def test_lists_of_many_classes_come_in_small_pieces(
    database_url: str, client: FlaskClient, app: Flask, folds: dict
) -> None:
    set_split(app, classes=[f"class {number}" for number in range(100_000)])
    finish(app, *folds, predictions=np.zeros((1, 100_000)))
    assert max(pieces(client.get(URL))) < BATCH


def test_classes_are_read_for_predictions_alone(
    database_url: str, client: FlaskClient, app: Flask, folds: dict
) -> None:
    set_split(app, classes=["a", "b"])
    finish(app, 11)
    with app.app_context():
        assert [find_row(fold_id).classes for fold_id in (11, 12)] == [["a", "b"], None]


def test_light_answers_what_the_schema_says(client: FlaskClient, folds: dict) -> None:
    [first, *_] = client.get("/runapp/submissionfold-light/").json
    assert list(first) == list(schemas.SubmissionFoldLight().fields)
