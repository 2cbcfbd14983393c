"""Data sets and their splits, through the API."""

import gzip
import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from posts import CSV, IRIS, NEW_FOLD, at_once, counts, encode, finish, pieces, set_split
from sqlalchemy import event, func, select, text

import files
import recording
import schemas
from api.csv_file import LONGEST_RECORD
from api.rawdata import remove as remove_raw_data
from api.streams import BATCH
from api.submission import remove_folds
from api.workflow import GRAMMAR
from models import Content, FoldPredictions, RawData, RawDataFile, State, Submission, SubmissionFold, db, writing
from servers import wait_until

ELEMENT_NAMES = ["any_transformer", "calibrator", "classifier", "estimator", "feature_extractor", "regressor"]
ONE = "one (.csv, .csv.gz, .tsv, .tsv.gz), or a Python file that reads the data"
A_ROW = "expected a header and at least one row."
CUSTOM = IRIS | {"files": {"my_data.py": "def prepare_data(raw_data_path): ...", "anything.bin": "1"}}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("iris.csv.gz", gzip.compress(CSV.encode())),
        ("iris.tsv", CSV.replace(",", "\t").encode()),
        ("iris.TSV.GZ", gzip.compress(CSV.replace(",", "\t").encode())),
    ],
    ids=["csv.gz", "tsv", "TSV.GZ"],
)
def test_a_table_is_read_as_its_name_ends(client: FlaskClient, name: str, content: bytes) -> None:
    posted = IRIS | {
        "target_column": "species, width",
        "workflow_elements": "scaling_transformer, my_own_transformer, estimator",
        "files": {name: encode(content), "notes.txt": "1"},
    }
    answer = client.post("/runapp/rawdata/", json=posted)
    assert answer.status_code == 201, answer.json
    split = {"raw_data_id": 1, "held_out_test": 0.5}
    assert client.post("/runapp/rawdata/split/", json=split).status_code == 200


def test_a_data_set_is_created(database_url: str, client: FlaskClient, app: Flask) -> None:
    answer = client.post("/runapp/rawdata/", json=IRIS)
    assert answer.status_code == 201
    expected = {
        "id": 1,
        "name": "iris",
        "files_path": "raw_data/iris",
        "workflow_elements": "feature_extractor, classifier",
        "target_column": "species",
        "time_limit": None,
        "memory_limit": None,
        "split_state": None,
        "n_train": None,
        "n_test": None,
        "log_messages": None,
    }
    assert answer.json == expected
    assert client.get("/runapp/rawdata/").json == [expected]


def test_a_data_set_may_have_limits_of_its_own(client: FlaskClient) -> None:
    answer = client.post("/runapp/rawdata/", json=IRIS | {"time_limit": 0.5, "memory_limit": 300})
    assert (answer.status_code, answer.json["time_limit"], answer.json["memory_limit"]) == (201, 0.5, 300)


def test_names_of_targets_may_hold_commas(client: FlaskClient) -> None:
    files = {"deaths.csv": 'region,"Colon, rectum and anus (C18-21)",Liver (C22)\n1,2,3\n2,3,4\n'}
    data = IRIS | {"files": files, "workflow_elements": "regressor"}
    good = data | {"target_column": "Colon, rectum and anus (C18-21), Liver (C22)"}
    assert client.post("/runapp/rawdata/", json=good).status_code == 201
    bad = data | {"name": "bad", "target_column": "Liver (C22), Colon, rectum"}
    assert client.post("/runapp/rawdata/", json=bad).json["target_column"][0].startswith('"Colon" is no column of ')


@pytest.mark.parametrize("content", [CSV, encode(CSV.encode()), "\n".join(encode(CSV.encode())), "\ufeff" + CSV])
def test_a_csv_may_be_plain_or_encoded(client: FlaskClient, content: str) -> None:
    assert client.post("/runapp/rawdata/", json=IRIS | {"files": {"iris.csv": content}}).status_code == 201


def test_files_may_be_uploaded(database_url: str, client: FlaskClient, app: Flask) -> None:
    eJ_text = b"eJ,species\n1,a\n"  # taken as it is, whatever it looks like
    form = {**IRIS, "files": [(io.BytesIO(eJ_text), "iris.csv"), (io.BytesIO(b"\0\xff"), "notes.bin")]}
    assert client.post("/runapp/rawdata/", data=form).status_code == 201
    with app.app_context():
        assert db.session.scalars(select(RawDataFile.name).order_by(RawDataFile.name)).all() == [
            "iris.csv",
            "notes.bin",
        ]


def test_a_list_of_long_logs_comes_in_small_pieces(database_url: str, client: FlaskClient, app: Flask) -> None:
    for i in (1, 2, 3):
        client.post("/runapp/rawdata/", json=IRIS | {"name": f"iris {i}"})
        set_split(app, i, log_messages="\N{REPLACEMENT CHARACTER}" * 200_000)
    assert max(pieces(client.get("/runapp/rawdata/"))) < BATCH


ALIKE = "Two file names differ in case or Unicode form alone; expected names that any system keeps apart."
REFUSED = [
    (
        IRIS | {"time_limit": 0},
        {"time_limit": ["0 is no such limit; expected a number of seconds above 0, at most 2592000."]},
    ),
    (
        IRIS | {"memory_limit": 0.5},
        {"memory_limit": ["0.5 is no such limit; expected an integer of MB above 0, at most 10000000."]},
    ),
    (
        IRIS | {"memory_limit": True},
        {"memory_limit": ["true is no such limit; expected an integer of MB above 0, at most 10000000."]},
    ),
    ({}, {f: ["This field is required."] for f in IRIS}),
    (
        dict.fromkeys(IRIS),
        {f: ["This field may not be null."] for f in IRIS},
    ),
    (
        IRIS | {"name": " ", "target_column": "", "workflow_elements": "", "files": {}},
        {
            **{f: ["This field may not be blank."] for f in ("name", "target_column", "workflow_elements")},
            "files": ["{} holds no files; expected an object of file names and contents."],
        },
    ),
    (
        IRIS | {"name": 3, "files": "x"},
        {
            "name": ["3 is not a text; expected a string."],
            "files": ['"x" holds no files; expected an object of file names and contents.'],
        },
    ),
    (
        IRIS | {"colour": 1},
        {
            "colour": [
                "Unknown field; expected some of name, target_column, workflow_elements, files, time_limit, "
                "memory_limit."
            ]
        },
    ),
    (IRIS | {"name": "../x"}, {"name": ['"../x" is no plain file name; expected a safe file name.']}),
    (IRIS | {"name": "/x"}, {"name": ['"/x" is no plain file name; expected a safe file name.']}),
    (IRIS | {"name": ".."}, {"name": ['".." is no plain file name; expected a safe file name.']}),
    (IRIS | {"name": "a\tb"}, {"name": ['"a\\tb" holds a control character; expected a safe file name.']}),
    (IRIS | {"name": "a\0b"}, {"name": ['"a\\u0000b" is not UTF-8 text without NUL; expected such a text.']}),
    (IRIS | {"name": "\ud800"}, {"name": ['"?" is not UTF-8 text without NUL; expected such a text.']}),
    (IRIS | {"name": "x" * 41}, {"name": ["The text has 41 characters; expected at most 40."]}),
    (
        IRIS | {"files": {"../iris.csv": CSV}},
        {"files": ['The file name "../iris.csv" is no plain file name; expected a safe file name.']},
    ),
    (
        IRIS | {"files": {"a\0.csv": CSV}},
        {"files": ['The file name "a\\u0000.csv" holds a control character; expected a safe file name.']},
    ),
    (
        IRIS | {"files": {"é" * 99 + ".csv": CSV}},
        {
            "files": [
                f'The file name "{"é" * 59}... has 202 bytes, more than 200; expected a safe file name.',
            ]
        },
    ),
    (
        IRIS | {"files": {"\udcff.csv": CSV}},
        {"files": ['The file name "?.csv" is not UTF-8; expected a safe file name.']},
    ),
    *(
        (IRIS | {"files": {"iris.csv": CSV, name: CSV, other: CSV}}, {"files": [ALIKE]})
        for name, other in (
            ("a.csv", "A.CSV"),
            ("\N{LATIN SMALL LETTER E WITH ACUTE}.txt", "e\N{COMBINING ACUTE ACCENT}.txt"),
            ("\N{LATIN CAPITAL LETTER E WITH ACUTE}.txt", "e\N{COMBINING ACUTE ACCENT}.txt"),
            ("\u0390", "\u03aa\u0301"),  # the small iota with dialytika and tonos, the capital one
        )
    ),
    (IRIS | {"files": {"iris.csv": 3}}, {"files": ['"iris.csv" is 3; expected a string.']}),
    (IRIS | {"files": {"iris.csv": "\ud800"}}, {"files": ['"iris.csv" is not UTF-8 text.']}),
    (IRIS | {"files": {"iris.csv": "eJ"}}, {"files": ['"iris.csv" is corrupt: not base64.']}),
    (
        IRIS | {"files": {"iris.csv": "eJwrz0zJTi0="}},
        {"files": ['"iris.csv" is corrupt: its end is missing.']},
    ),
    (
        IRIS | {"files": {"iris.csv": encode(b"\xff\xfe")}},
        {"files": ['"iris.csv" is not UTF-8 text; expected a header and at least one row.']},
    ),
    (
        IRIS | {"files": {"iris.txt": CSV}},
        {
            "files": [
                "0 CSV files came; expected one (.csv, .csv.gz, .tsv, .tsv.gz), or a Python file that reads the data."
            ]
        },
    ),
    (
        IRIS | {"files": {"a.csv": CSV, "b.CSV": CSV}},
        {
            "files": [
                "2 CSV files came; expected one (.csv, .csv.gz, .tsv, .tsv.gz), or a Python file that reads the data."
            ]
        },
    ),
    (
        IRIS | {"files": {"iris.csv.gz": CSV}},
        {"files": [f"\"iris.csv.gz\" cannot be unpacked: Not a gzipped file (b'wi'); {A_ROW}"]},
    ),
    (
        IRIS | {"files": {"iris.csv.gz": encode(gzip.compress(b"width,species\n" + b"\n" * (LONGEST_RECORD + 1)))}},
        {
            "files": [
                '"iris.csv.gz" has a record of more than 4194304 characters; expected a header and at least one row.'
            ]
        },
    ),
    (
        IRIS | {"files": {"iris.tsv": CSV}},
        {"target_column": ['"species" is no column of "iris.tsv"; expected one of width,species.']},
    ),
    (
        IRIS | {"target_column": "width, weight"},
        {"target_column": ['"weight" is no column of "iris.csv"; expected one of width, species.']},
    ),
    (
        IRIS | {"files": {"iris.csv": f"{'w' * 100_000},{'x' * 60}\n1,a\n"}},
        {"target_column": [f'"species" is no column of "iris.csv"; expected one of {"w" * 60}..., {"x" * 60}.']},
    ),
    (
        IRIS | {"workflow_elements": "my transformer, classifier"},
        {
            "workflow_elements": [
                f"'my transformer' is no workflow element; expected some of {', '.join(ELEMENT_NAMES)}."
            ]
        },
    ),
    (
        IRIS | {"workflow_elements": "estimator, calibrator"},
        {"workflow_elements": [f"'estimator, calibrator' calibrates no classifier; expected {GRAMMAR}."]},
    ),
    (
        IRIS | {"files": {"iris.csv": ""}},
        {"files": ['"iris.csv" is empty; expected a header and at least one row.']},
    ),
    (
        IRIS | {"files": {"iris.csv": "width,species\n\n"}},
        {"files": ['"iris.csv" has no rows below its header; expected a header and at least one row.']},
    ),
    (
        IRIS | {"files": {"iris.csv": "width,species\n" + "x" * (LONGEST_RECORD + 1)}},
        {"files": ['"iris.csv" has a record of more than 4194304 characters; expected a header and at least one row.']},
    ),
    (
        IRIS | {"files": {"iris.csv": 'width,species\n"' + "x\n" * (LONGEST_RECORD // 2)}},
        {"files": ['"iris.csv" has a record of more than 4194304 characters; expected a header and at least one row.']},
    ),
    (
        IRIS | {"target_column": "Species"},
        {"target_column": ['"Species" is no column of "iris.csv"; expected one of width, species.']},
    ),
    (
        IRIS | {"workflow_elements": "clasifier"},
        {"workflow_elements": [f"'clasifier' is no workflow element; expected some of {', '.join(ELEMENT_NAMES)}."]},
    ),
    (
        IRIS | {"workflow_elements": "classifier,classifier"},
        {"workflow_elements": ["'classifier' stands twice; expected each element once."]},
    ),
    (
        IRIS | {"workflow_elements": "regressor, calibrator"},
        {
            "workflow_elements": [
                "'regressor, calibrator' calibrates no classifier; expected any transformers, then one predictor, "
                "then optionally a calibrator after a classifier."
            ]
        },
    ),
    *(
        (
            IRIS | {"workflow_elements": elements},
            {
                "workflow_elements": [
                    f"'{elements}' is no workflow that can run; expected any transformers, then one predictor, then "
                    "optionally a calibrator after a classifier."
                ]
            },
        )
        for elements in (
            "feature_extractor",
            "classifier, feature_extractor",
            "classifier, regressor",
            "calibrator, classifier",
        )
    ),
]


@pytest.mark.parametrize(("body", "errors"), REFUSED)
def test_a_wrong_data_set_is_refused(
    client: FlaskClient, app: Flask, queue: redis.Redis, body: dict, errors: dict
) -> None:
    answer = client.post("/runapp/rawdata/", json=body)
    assert (answer.status_code, answer.json) == (400, errors)
    assert not any(counts(app, queue).values())


def test_a_name_that_exists_is_refused(database_url: str, client: FlaskClient, app: Flask, queue: redis.Redis) -> None:
    client.post("/runapp/rawdata/", json=IRIS)
    before = counts(app, queue)
    answer = client.post("/runapp/rawdata/", json=IRIS | {"files": {"iris.csv": CSV + "5,a\n"}})
    assert (answer.status_code, answer.json) == (400, {"name": ["RawData with this name already exists."]})
    assert counts(app, queue) == before


def test_data_with_a_python_file_are_not_judged(client: FlaskClient) -> None:
    assert client.post("/runapp/rawdata/", json=CUSTOM).status_code == 201


@pytest.mark.parametrize(
    ("elements", "fault"),
    [
        ("ts_feature_extractor, clusterer", None),
        ("classifier, regressor", None),
        ("my file", "'my file' is no workflow element; expected the name of a Python file, without .py."),
        ("../x", "'../x' is no workflow element; expected the name of a Python file, without .py."),
        ("a,,b", "'' is no workflow element; expected the name of a Python file, without .py."),
        ("a, a", "'a' stands twice; expected each element once."),
    ],
)
def test_with_a_python_file_elements_have_any_name(client: FlaskClient, elements: str, fault: str | None) -> None:
    answer = client.post("/runapp/rawdata/", json=CUSTOM | {"workflow_elements": elements})
    assert answer.status_code == (400 if fault else 201)
    assert answer.json["workflow_elements"] == ([fault] if fault else elements)


def test_too_many_files_are_refused(client: FlaskClient, app: Flask) -> None:
    files = {f"{i}.txt": "" for i in range(101)}
    answer = client.post("/runapp/rawdata/", json=IRIS | {"files": files})
    assert (answer.status_code, answer.json) == (400, {"files": ["101 files came; expected at most 100."]})


def test_a_bomb_is_refused(client: FlaskClient, app: Flask, queue: redis.Redis) -> None:
    app.config["MAX_FILE_SIZE"] = 3  # MB
    answer = client.post("/runapp/rawdata/", json=IRIS | {"files": {"iris.csv": encode(bytes(3_000_001))}})
    assert (answer.status_code, answer.json) == (400, {"files": ['"iris.csv" unpacks to more than 3 MB.']})
    assert not any(counts(app, queue).values())


def test_files_that_are_too_large_together_are_refused(client: FlaskClient, app: Flask) -> None:
    app.config["MAX_UPLOAD_SIZE"] = 3  # MB
    files = {f"{i}.csv": encode(bytes(1_600_000)) for i in range(2)}
    answer = client.post("/runapp/rawdata/", json=IRIS | {"files": files})
    assert (answer.status_code, answer.json) == (400, {"files": ['"1.csv" unpacks to more than 1.4 MB.']})


def test_an_upload_that_is_too_large_is_refused(client: FlaskClient, app: Flask) -> None:
    app.config["MAX_FILE_SIZE"] = 1  # MB
    answer = client.post("/runapp/rawdata/", data={**IRIS, "files": (io.BytesIO(bytes(1_000_001)), "iris.csv")})
    assert (answer.status_code, answer.json) == (400, {"files": ['"iris.csv" is larger than 1 MB.']})


def test_an_uploaded_file_with_an_unsafe_name_is_refused(client: FlaskClient) -> None:
    answer = client.post("/runapp/rawdata/", data={**IRIS, "files": (io.BytesIO(CSV.encode()), "../iris.csv")})
    fault = 'The file name "../iris.csv" is no plain file name; expected a safe file name.'
    assert (answer.status_code, answer.json) == (400, {"files": [fault]})


def test_two_uploads_of_one_name_are_refused(client: FlaskClient) -> None:
    twice = [(io.BytesIO(CSV.encode()), "iris.csv"), (io.BytesIO(b""), "iris.csv")]
    answer = client.post("/runapp/rawdata/", data={**IRIS, "files": twice})
    assert (answer.status_code, answer.json) == (400, {"files": ["Two files have the same name; expected each once."]})


def test_a_file_in_the_place_of_a_value_is_refused(client: FlaskClient) -> None:
    files = {"files": (io.BytesIO(CSV.encode()), "iris.csv"), "time_limit": (io.BytesIO(b"5"), "time_limit")}
    answer = client.post("/runapp/rawdata/", data={**IRIS, **files})
    assert (answer.status_code, answer.json) == (400, {"time_limit": ["A file came; expected a value."]})


def test_files_in_a_form_without_files_are_refused(client: FlaskClient) -> None:
    answer = client.post("/runapp/rawdata/", data={"files": "x"})
    expected = "A text came; expected each file as a part of multipart/form-data with its file name."
    assert (answer.status_code, answer.json) == (400, {"files": [expected]})


def test_of_posts_of_one_name_at_the_same_instant_one_wins(database_url: str, client: FlaskClient, app: Flask) -> None:
    answers = at_once(app, client, [lambda own: own.post("/runapp/rawdata/", json=IRIS)] * 6)
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 5
    refusals = [answer.json for answer in answers if answer.status_code == 400]
    assert refusals == [{"name": ["RawData with this name already exists."]}] * 5


# ---- splits


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        (b'"' + b"x" * (LONGEST_RECORD + 1), f"has a record of more than {LONGEST_RECORD} characters"),
        (b"1,a\n" * 5000 + b"\xff,1", "is not UTF-8 text"),
    ],
    ids=["no closing quote", "no UTF-8"],
)
def test_a_table_that_breaks_below_its_first_row_is_refused(client: FlaskClient, rest: bytes, fault: str) -> None:
    table = encode(b"width,species\n1,a\n" + rest)
    assert client.post("/runapp/rawdata/", json=IRIS | {"files": {"iris.csv": table}}).status_code == 201
    answer = client.post("/runapp/rawdata/split/", json={"raw_data_id": 1, "held_out_test": 0.9999})
    expected = f'"iris.csv" of raw data 1 {fault}; expected a table.'
    assert (answer.status_code, answer.json) == (400, {"raw_data_id": [expected]})


@pytest.fixture
def iris(client: FlaskClient) -> int:
    return client.post("/runapp/rawdata/", json=IRIS).json["id"]


def split(client: FlaskClient, url: str = "rawdata/split/", **body: Any) -> Any:
    return client.post(f"/runapp/{url}", json=body)


@pytest.mark.parametrize("url", ["rawdata/split/", "raw_data/split/"])
def test_a_split_is_enqueued(client: FlaskClient, app: Flask, queue: redis.Redis, iris: int, url: str) -> None:
    answer = split(client, url, raw_data_id=iris, held_out_test=0.5)
    assert answer.status_code == 200
    with app.app_context():
        row = db.session.get_one(RawData, iris)
        assert (row.split_state, row.held_out_test, row.random_state) == (State.TODO, 0.5, 42)
        assert answer.json == {"task_id": row.task_id}
        assert queue.lrange("rq:queue:high", 0, -1) == [row.task_id.encode()]


def test_a_split_may_come_as_a_form(client: FlaskClient, app: Flask, iris: int) -> None:
    form = {"raw_data_id": str(iris), "held_out_test": "0.25", "random_state": "7", "force": "true"}
    assert client.post("/runapp/rawdata/split/", data=form).status_code == 200
    with app.app_context():
        row = db.session.get_one(RawData, iris)
        assert (row.held_out_test, row.random_state) == (0.25, 7)


ARABIC = "\N{ARABIC-INDIC DIGIT FIVE}"


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("held_out_test", "0.2_5", '"0.2_5" is not between 0 and 1; expected a number above 0 and below 1.'),
        ("held_out_test", f".{ARABIC}", f'".{ARABIC}" is not between 0 and 1; expected a number above 0 and below 1.'),
        ("random_state", "1_000", '"1_000" is no such integer; expected one from 0 to 4294967295.'),
        ("random_state", ARABIC, f'"{ARABIC}" is no such integer; expected one from 0 to 4294967295.'),
    ],
)
def test_a_form_has_numbers_as_json_has_them(
    client: FlaskClient, iris: int, field: str, text: str, message: str
) -> None:
    form = {"raw_data_id": str(iris), "held_out_test": "0.25", field: text}
    answer = client.post("/runapp/rawdata/split/", data=form)
    assert (answer.status_code, answer.json) == (400, {field: [message]})


@pytest.mark.parametrize(
    ("field", "kind"), [("memory_limit", "an integer of MB"), ("time_limit", "a number of seconds")]
)
def test_a_form_has_limits_as_json_has_them(client: FlaskClient, field: str, kind: str) -> None:
    form = IRIS | {field: "1_000", "files": (io.BytesIO(IRIS["files"]["iris.csv"].encode()), "iris.csv")}
    answer = client.post("/runapp/rawdata/", data=form)
    assert answer.status_code == 400
    assert answer.json[field][0].startswith(f'"1_000" is no such limit; expected {kind} above 0, at most ')


@pytest.mark.parametrize("state", [State.TODO, State.DONE])
def test_the_same_split_again_changes_nothing(
    client: FlaskClient, app: Flask, queue: redis.Redis, iris: int, state: State
) -> None:
    first = split(client, raw_data_id=iris, held_out_test=0.5)
    set_split(app, iris, split_state=state)
    for force in (False, True):
        assert split(client, raw_data_id=iris, held_out_test=0.5, force=force).json == first.json
    assert queue.llen("rq:queue:high") == 1


def test_a_split_that_failed_is_done_again(client: FlaskClient, app: Flask, queue: redis.Redis, iris: int) -> None:
    first = split(client, raw_data_id=iris, held_out_test=0.5)
    set_split(app, iris, split_state=State.ERROR, log_messages="x", token="t", attempts=3)
    again = split(client, raw_data_id=iris, held_out_test=0.5)
    assert again.status_code == 200
    assert again.json != first.json
    with app.app_context():
        row = db.session.get_one(RawData, iris)
        assert (row.split_state, row.log_messages, row.token, row.attempts) == (State.TODO, None, None, 0)
    assert queue.llen("rq:queue:high") == 2


def test_another_split_is_refused_once_folds_exist(
    client: FlaskClient, app: Flask, queue: redis.Redis, iris: int
) -> None:
    split(client, raw_data_id=iris, held_out_test=0.5)
    assert client.post("/runapp/submissionfold/", json=NEW_FOLD).status_code == 201
    before = counts(app, queue)
    answer = split(client, raw_data_id=iris, held_out_test=0.25)
    expected = "Raw data 1 has folds on its present split; expected force to be true."
    assert (answer.status_code, answer.json) == (400, {"raw_data_id": [expected]})
    assert counts(app, queue) == before
    with app.app_context():
        assert db.session.get_one(RawData, iris).held_out_test == 0.5


def test_a_forced_split_trains_its_folds_again(
    database_url: str, client: FlaskClient, app: Flask, queue: redis.Redis, iris: int
) -> None:
    split(client, raw_data_id=iris, held_out_test=0.5)
    task_id = client.post("/runapp/submissionfold/", json=NEW_FOLD).json["task_id"]
    finish(app, 11)
    assert split(client, raw_data_id=iris, held_out_test=0.25, force=True).status_code == 200
    fold = client.get("/runapp/submissionfold/11/").json
    assert (fold["state"], fold["test_predictions"], fold["train_time"], fold["attempts"], fold["new"]) == (
        "TODO",
        None,
        0.0,
        0,
        True,
    )
    assert fold["task_id"] != task_id
    with app.app_context():
        assert db.session.get_one(SubmissionFold, 11).token is None


ID_RANGE = "expected one from 0 to 9223372036854775807."


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {f: ["This field is required."] for f in ("raw_data_id", "held_out_test")}),
        (
            {"raw_data_id": None, "held_out_test": None, "random_state": None, "force": None},
            {f: ["This field may not be null."] for f in ("raw_data_id", "held_out_test", "random_state", "force")},
        ),
        *(
            (
                {"raw_data_id": 1, "held_out_test": value},
                {
                    "held_out_test": [
                        f"{schemas.shown(value)} is not between 0 and 1; expected a number above 0 and below 1."
                    ]
                },
            )
            for value in (0, 1, -0.1, 1.5, True, "0.5", float("nan"), [])
        ),
        *(
            (
                {"raw_data_id": value, "held_out_test": 0.5},
                {"raw_data_id": [f"{schemas.shown(value)} is no such integer; {ID_RANGE}"]},
            )
            for value in (True, "1", 1.0, -1, 2**63, {})
        ),
        (
            {"raw_data_id": 1, "held_out_test": 0.5, "random_state": 2**32},
            {"random_state": ["4294967296 is no such integer; expected one from 0 to 4294967295."]},
        ),
        (
            {"raw_data_id": 1, "held_out_test": 0.5, "force": "true"},
            {"force": ['"true" is not a boolean; expected true or false.']},
        ),
        (
            {"raw_data_id": 7, "held_out_test": 0.5},
            {"raw_data_id": ["There is no raw data 7; expected the id of a data set."]},
        ),
        (
            {"raw_data_id": 1, "held_out_test": 0.8},
            {"held_out_test": ["0.8 of 4 rows leaves none to train on; expected rows on both sides."]},
        ),
        (
            {"raw_data_id": 1, "held_out_test": 0.5, "seed": 1},
            {"seed": ["Unknown field; expected some of raw_data_id, held_out_test, random_state, force."]},
        ),
    ],
)
def test_a_wrong_split_is_refused(
    client: FlaskClient, app: Flask, queue: redis.Redis, iris: int, body: dict, errors: dict
) -> None:
    before = counts(app, queue)
    answer = client.post("/runapp/rawdata/split/", json=body)
    assert (answer.status_code, answer.json) == (400, errors)
    assert counts(app, queue) == before
    assert client.get("/runapp/rawdata/").json[0]["split_state"] is None


def test_a_held_out_part_may_leave_one_row(client: FlaskClient, iris: int) -> None:
    assert split(client, raw_data_id=iris, held_out_test=0.75).status_code == 200


@pytest.mark.parametrize("url", ["rawdata/customsplit/", "raw_data/customsplit/"])
def test_a_custom_split_refuses_plain_data(
    client: FlaskClient, app: Flask, queue: redis.Redis, iris: int, url: str
) -> None:
    answer = split(client, url, raw_data_id=iris)
    expected = "Raw data 1 has no Python file of its own; expected /runapp/rawdata/split/."
    assert (answer.status_code, answer.json) == (400, {"raw_data_id": [expected]})
    assert queue.llen("rq:queue:high") == 0


def test_a_custom_split_is_enqueued(client: FlaskClient, app: Flask, queue: redis.Redis) -> None:
    client.post("/runapp/rawdata/", json=CUSTOM)
    first = split(client, "rawdata/customsplit/", raw_data_id=1)
    assert first.status_code == 200
    assert split(client, "rawdata/customsplit/", raw_data_id=1).json == first.json
    assert queue.lrange("rq:queue:high", 0, -1) == [first.json["task_id"].encode()]


def test_a_split_refuses_data_with_a_python_file(client: FlaskClient) -> None:
    client.post("/runapp/rawdata/", json=CUSTOM)
    answer = split(client, raw_data_id=1, held_out_test=0.5)
    expected = "Raw data 1 has its own Python file; expected /runapp/rawdata/customsplit/."
    assert (answer.status_code, answer.json) == (400, {"raw_data_id": [expected]})


def test_another_split_removes_what_the_first_made(client: FlaskClient, app: Flask, iris: int) -> None:
    split(client, raw_data_id=iris, held_out_test=0.5)
    with app.app_context():
        made = files.store(io.BytesIO(b"indices"))
    set_split(app, iris, split_state=State.DONE, split_is=made, n_train=2, n_test=2)
    split(client, raw_data_id=iris, held_out_test=0.25)
    with app.app_context():
        row = db.session.get_one(RawData, iris)
        assert (row.split_state, row.split_is, row.n_train) == (State.TODO, None, None)
        assert db.session.scalar(select(func.count()).select_from(Content)) == 1  # the CSV
        assert db.session.scalar(select(func.count()).select_from(Submission)) == 0


# ---- while others write, and while the database goes

AtStatement = Callable[[str, Callable[[], None]], None]


@pytest.fixture
def at_statement(app: Flask) -> Iterator[AtStatement]:
    """Have something done once, before a statement that begins so is sent."""
    actions: dict[str, Callable[[], None]] = {}

    def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        for beginning in [beginning for beginning in actions if statement.startswith(beginning)]:
            actions.pop(beginning)()

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", before)
    yield actions.__setitem__
    event.remove(engine, "before_cursor_execute", before)
    assert not actions, "no such statement was sent"


POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
END_SESSIONS = """
SELECT pg_terminate_backend(pid, timeout => 60000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
TABLES = pytest.mark.parametrize(
    "table", [{"iris.csv": CSV}, {"iris.csv.gz": encode(gzip.compress(CSV.encode()))}], ids=list
)


@TABLES
def test_a_data_set_that_is_removed_before_its_split_is_not_there(
    database_url: str, client: FlaskClient, app: Flask, at_statement: AtStatement, table: dict[str, str]
) -> None:
    client.post("/runapp/rawdata/", json=IRIS | {"files": table})

    def remove() -> None:
        with app.app_context():
            remove_raw_data(1, force=False)

    at_statement("SELECT chunk.data", remove)
    answer = split(client, raw_data_id=1, held_out_test=0.5)
    expected = "There is no raw data 1; expected the id of a data set."
    assert (answer.status_code, answer.json) == (400, {"raw_data_id": [expected]})


@pytest.mark.parametrize(
    ("posted", "url", "asked"),
    [(IRIS, "rawdata/split/", {"held_out_test": 0.5}), (CUSTOM, "rawdata/customsplit/", {})],
    ids=["split", "customsplit"],
)
def test_a_data_set_that_is_removed_before_its_files_are_read_is_not_there(
    database_url: str, client: FlaskClient, app: Flask, at_statement: AtStatement, posted: dict, url: str, asked: dict
) -> None:
    client.post("/runapp/rawdata/", json=posted)

    def remove() -> None:
        with app.app_context():
            remove_raw_data(1, force=False)

    at_statement("SELECT raw_data_file", remove)
    answer = split(client, url, raw_data_id=1, **asked)
    expected = "There is no raw data 1; expected the id of a data set."
    assert (answer.status_code, answer.json) == (400, {"raw_data_id": [expected]})


@TABLES
@POSTGRESQL
def test_a_database_that_goes_while_a_table_is_read_is_no_fault_of_the_table(
    database_url: str, client: FlaskClient, at_statement: AtStatement, table: dict[str, str]
) -> None:
    client.post("/runapp/rawdata/", json=IRIS | {"files": table})

    def end_sessions() -> None:
        with psycopg.connect(database_url) as operator:
            operator.execute(END_SESSIONS)

    at_statement("SELECT chunk.data", end_sessions)
    answer = split(client, raw_data_id=1, held_out_test=0.5)
    expected = "The database cannot be reached for now; please try again."
    assert (answer.status_code, answer.json) == (503, {"detail": expected})


# ---- a forced split beside others that write, on PostgreSQL: on SQLite, one writes after another

SOMEBODY_WAITS = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


@POSTGRESQL
def test_a_result_that_comes_beside_a_forced_split_leaves_no_predictions(
    database_url: str, client: FlaskClient, app: Flask, iris: int, at_statement: AtStatement
) -> None:
    split(client, raw_data_id=iris, held_out_test=0.5)
    task_id = client.post("/runapp/submissionfold/", json=NEW_FOLD).json["task_id"]
    with app.app_context():
        claim = recording.claim(SubmissionFold, 11, task_id, max_attempts=3)
    predictions = {"full_train_predictions": b"", "test_predictions": b"", "predictions_shape": {}}

    def finish() -> bool:
        with app.app_context():
            return claim.finish_fold(predictions, state=State.TESTED, cause=None, log_messages="")

    def somebody_waits() -> bool:
        with app.app_context():
            return db.session.scalar(SOMEBODY_WAITS) > 0

    with ThreadPoolExecutor(1) as threads:
        finished: list[Future[bool]] = []

        def finish_beside() -> None:
            finished.append(threads.submit(finish))
            wait_until(lambda: finished[0].done() or somebody_waits(), 60, "it ends, or waits for the split")

        at_statement("DELETE FROM fold_predictions", finish_beside)
        assert split(client, raw_data_id=iris, held_out_test=0.25, force=True).status_code == 200
    with app.app_context():
        assert finished[0].result() is False
        assert db.session.get_one(SubmissionFold, 11).state == State.TODO
        assert db.session.scalar(select(func.count()).select_from(FoldPredictions)) == 0


@POSTGRESQL
def test_a_fold_that_is_removed_beside_a_forced_split_is_left_out(
    database_url: str, client: FlaskClient, app: Flask, iris: int, at_statement: AtStatement
) -> None:
    split(client, raw_data_id=iris, held_out_test=0.5)
    for fold in (NEW_FOLD, NEW_FOLD | {"databoard_sf_id": 12, "raw_data": None, "files": None}):
        posted = {name: value for name, value in fold.items() if value is not None}
        assert client.post("/runapp/submissionfold/", json=posted).status_code == 201

    def remove() -> None:
        with app.app_context(), writing():
            remove_folds(SubmissionFold.databoard_sf_id == 12)

    at_statement("UPDATE submission_fold", remove)
    assert split(client, raw_data_id=iris, held_out_test=0.25, force=True).status_code == 200
    assert [fold["databoard_sf_id"] for fold in client.get("/runapp/submissionfold-light/").json] == [11]
