"""Errors of every kind: the status, the JSON, and nothing of our insides."""

import gzip
import io
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import requests
from flask import Flask, Response
from flask.testing import FlaskClient
from posts import IRIS, NEW_FOLD, counts

from app import create_app
from config import Config
from models import db
from servers import PASSWORD, USERNAME

MULTIPART = "multipart/form-data; boundary=x"
RAW_DATA = "/runapp/rawdata/"
GETS = [RAW_DATA, "/runapp/submissionfold/", "/runapp/submissionfold/1/", "/runapp/submissionfold-light/"]
POSTS = [
    RAW_DATA,
    "/runapp/rawdata/split/",
    "/runapp/raw_data/split/",
    "/runapp/rawdata/customsplit/",
    "/runapp/raw_data/customsplit/",
    "/runapp/submissionfold/",
    "/runapp/testpredictions/list/",
    "/runapp/testpredictions/new/",
]


ADDRESSES_OF_NOTHING = [
    "/nothing",
    "/runapp/nothing/",
    "/runapp/submissionfold/x/",
    "/runapp/submissionfold/\N{ARABIC-INDIC DIGIT ONE}/",
    "/runapp/submissionfold/1_000/",
]


@pytest.mark.parametrize("url", ADDRESSES_OF_NOTHING)
def test_an_unknown_address_is_not_found(client: FlaskClient, url: str) -> None:
    answer = client.get(url)
    assert answer.status_code == 404
    assert list(answer.json) == ["detail"]


@pytest.mark.parametrize(("url", "method"), [(url, "put") for url in GETS + POSTS] + [(POSTS[1], "get")])
def test_another_method_is_refused(client: FlaskClient, url: str, method: str) -> None:
    answer = getattr(client, method)(url)
    assert (answer.status_code, answer.json) == (405, {"detail": "The method is not allowed for the requested URL."})
    assert "OPTIONS" in answer.headers["Allow"]


@pytest.mark.parametrize(("url", "method"), [(u, "get") for u in GETS] + [(u, "post") for u in POSTS])
def test_every_address_needs_credentials(app: Flask, url: str, method: str) -> None:
    answer = getattr(app.test_client(), method)(url)
    expected = {"detail": "Authentication credentials were not provided."}
    assert (answer.status_code, answer.json) == (401, expected)


def test_unknown_addresses_need_credentials_too(app: Flask) -> None:
    assert app.test_client().get("/runapp/nothing/").status_code == 401


@pytest.mark.parametrize("url", GETS + POSTS)
def test_without_its_slash_an_address_redirects(client: FlaskClient, url: str) -> None:
    answer = client.open(url.rstrip("/"), method="GET" if url in GETS else "POST")
    assert answer.status_code == 308
    assert answer.headers["Location"].endswith(url)


@pytest.mark.parametrize("url", GETS[:2] + GETS[3:])
def test_head_is_get_without_a_body(client: FlaskClient, url: str) -> None:
    answer = client.head(url)
    assert (answer.status_code, answer.data) == (200, b"")


def test_options_names_the_methods(client: FlaskClient) -> None:
    answer = client.options(RAW_DATA)
    assert answer.status_code == 200
    assert sorted(answer.allow) == ["GET", "HEAD", "OPTIONS", "POST"]


@pytest.mark.parametrize("url", POSTS)
@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/octet-stream"])
def test_another_content_type_is_refused(client: FlaskClient, url: str, content_type: str) -> None:
    answer = client.post(url, data="{}", content_type=content_type)
    assert answer.status_code == 415
    assert list(answer.json) == ["detail"]


@pytest.mark.parametrize("url", POSTS)
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", MULTIPART, ""])
def test_a_compressed_body_is_refused(client: FlaskClient, url: str, content_type: str) -> None:
    body = gzip.compress(b"{}")
    answer = client.post(url, data=body, content_type=content_type, headers={"Content-Encoding": "gzip"})
    expected = {"detail": 'The body\'s Content-Encoding is "gzip"; expected one without.'}
    assert (answer.status_code, answer.json) == (415, expected)


def test_a_body_that_is_said_to_be_sent_as_it_is_is_taken(client: FlaskClient) -> None:
    assert client.post(RAW_DATA, json=IRIS, headers={"Content-Encoding": "Identity"}).status_code == 201


@pytest.mark.parametrize("url", POSTS)
@pytest.mark.parametrize(("body", "name"), [("[]", "list"), ('"x"', "str"), ("null", "NoneType"), ("1", "int")])
def test_a_body_that_is_no_object_is_refused(client: FlaskClient, url: str, body: str, name: str) -> None:
    answer = client.post(url, data=body, content_type="application/json")
    expected = {"non_field_errors": [f"Invalid data. Expected a dictionary, but got {name}."]}
    assert (answer.status_code, answer.json) == (400, expected)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("{'a': 1}", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b'{"a": "\xff"}', "'utf-8' codec can't decode byte 0xff in position 7: invalid start byte"),
    ],
)
def test_invalid_json_is_refused(client: FlaskClient, body: Any, why: str) -> None:
    answer = client.post(RAW_DATA, data=body, content_type="application/json")
    assert (answer.status_code, answer.json) == (400, {"detail": f"JSON parse error - {why}"})


@pytest.mark.parametrize("body", ["[" * 100_000, '{"raw_data_id": ' + "1" * 5000 + "}"])
def test_json_that_cannot_be_read_is_refused(client: FlaskClient, body: str) -> None:
    answer = client.post("/runapp/testpredictions/new/", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["detail"].startswith("JSON parse error - ")
    assert "sys." not in answer.json["detail"]


def test_json_of_any_depth_is_refused(client: FlaskClient) -> None:
    for depth in range(850, 1000):  # somewhere here it is too deep for reading, a little before that for writing
        body = f'{{"name": {"[" * depth}{"]" * depth}}}'
        answer = client.post(RAW_DATA, data=body, content_type="application/json")
        assert answer.status_code == 400, depth
    assert answer.json["detail"].startswith("JSON parse error - ")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n1\r\n--y--"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="raw_data_id"\r\n\r\n1'),
        ("application/x-www-form-urlencoded", b"raw_data_id=1&x=\xff"),
    ],
    ids=["no boundary", "another boundary", "no end", "no text"],
)
def test_a_form_that_cannot_be_read_is_not_taken_for_an_empty_one(
    client: FlaskClient, app: Flask, content_type: str, body: bytes
) -> None:
    """An empty one asks for the predictions of all data sets, and has them delivered."""
    answer = client.post("/runapp/testpredictions/new/", data=body, content_type=content_type)
    assert answer.status_code == 400, answer.json
    assert answer.json["detail"].startswith("The form cannot be read - ")


@pytest.mark.parametrize(
    ("setting", "content_type"),
    [
        ("MAX_BODY_SIZE", "application/json"),
        ("MAX_BODY_SIZE", "application/x-www-form-urlencoded"),
        ("MAX_UPLOAD_SIZE", "multipart/form-data; boundary=x"),
    ],
)
def test_a_body_over_its_limit_is_too_large(
    client: FlaskClient, app: Flask, queue: Any, setting: str, content_type: str
) -> None:
    app.config[setting] = 1  # MB
    answer = client.post(RAW_DATA, data=b"x" * 1_000_001, content_type=content_type)
    assert answer.status_code == 413
    json_or_form = (
        "The body is too large: a JSON or form body may have 1 MB. "
        "Send larger files as parts of multipart/form-data, which may have 2048 MB."
    )
    multipart = "The body is too large: a multipart/form-data body may have 1 MB and 1000 parts, its fields 64 MB."
    assert answer.json == {"detail": multipart if "multipart" in content_type else json_or_form}
    assert not any(counts(app, queue).values())


def test_a_form_of_too_many_parts_is_too_large(client: FlaskClient) -> None:
    parts = {f"field{i}": (None, "1") for i in range(1001)}
    body = requests.Request("POST", "http://localhost", files=parts).prepare()
    answer = client.post(RAW_DATA, data=body.body, content_type=body.headers["Content-Type"])
    sentence = "The body is too large: a multipart/form-data body may have 2048 MB and 1000 parts, its fields 64 MB."
    assert (answer.status_code, answer.json) == (413, {"detail": sentence})


def test_unknown_fields_are_named_in_their_order_and_not_without_end(client: FlaskClient) -> None:
    body = {f"field{i:06}": 1 for i in range(1000, 0, -1)} | {"a" * 100_000: 1}
    answer = client.post("/runapp/testpredictions/list/", json=body)
    unknown = ["Unknown field; expected some of list_submission_fold."]
    names = ["a" * 60 + "...", *(f"field{i:06}" for i in range(1, 20))]
    expected = {"list_submission_fold": ["This field is required."], **dict.fromkeys(names, unknown)}
    expected["non_field_errors"] = ["981 more fields are unknown."]
    assert (answer.status_code, answer.json, list(answer.json)) == (400, expected, list(expected))


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_a_body_of_unknown_length_over_its_limit_is_too_large(
    client: FlaskClient, app: Flask, content_type: str
) -> None:
    app.config["MAX_BODY_SIZE"] = 1  # MB
    body = io.BytesIO(b"x" * 1_000_001)
    answer = client.post(
        RAW_DATA, input_stream=body, content_type=content_type, environ_base={"wsgi.input_terminated": True}
    )
    assert answer.status_code == 413
    assert list(answer.json) == ["detail"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"raw_data_id": 1, "held_out_test": 0.5}'),
        ("application/x-www-form-urlencoded", b"held_out_test=0.5&raw_data_id=1"),
    ],
)
def test_a_body_that_was_cut_is_refused(client: FlaskClient, app: Flask, content_type: str, body: bytes) -> None:
    client.post(RAW_DATA, json=IRIS)
    answer = client.post(
        "/runapp/rawdata/split/",
        input_stream=io.BytesIO(body),
        content_type=content_type,
        environ_overrides={"CONTENT_LENGTH": str(len(body) + 1), "wsgi.input_terminated": True},
    )
    expected = {"detail": "The connection broke before the end of the body."}
    assert (answer.status_code, answer.json) == (400, expected)
    assert client.get(RAW_DATA).json[0]["split_state"] is None


def test_a_fault_of_ours_says_nothing_of_our_insides(
    client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("api.rawdata.check_files", lambda *_: 1 / 0)
    answer = client.post(RAW_DATA, json=IRIS)
    assert answer.status_code == 500
    assert list(answer.json) == ["detail"]
    assert "Zero" not in answer.text
    assert "ZeroDivisionError" in caplog.text


def test_a_client_writes_no_lines_of_a_log(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.add_url_rule("/fails/<name>", view_func=lambda name: 1 / 0, endpoint="fails")
    assert app.test_client().get("/fails/x%0D%0Aforged line").status_code == 500
    assert "Exception on /fails/x%0D%0Aforged%20line [GET]" in caplog.messages


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all", "postgresql://nobody@127.0.0.1:1/x"])
def test_without_a_database_the_service_is_unavailable(config: Config, url: str) -> None:
    client = create_app(replace(config, DATABASE_URL=url)).test_client()
    expected = {"detail": "The database cannot be reached for now; please try again."}
    for answer in (
        client.get(RAW_DATA, auth=(USERNAME, PASSWORD)),
        client.post("/runapp/submissionfold/", json=NEW_FOLD, auth=(USERNAME, PASSWORD)),
    ):
        assert (answer.status_code, answer.json, answer.headers["Retry-After"]) == (503, expected, "5")


def test_an_answer_outlives_the_database_that_goes_meanwhile(database_url: str, app: Flask) -> None:
    @app.after_request
    def end_connections(answer: Response) -> Response:
        if db.engine.dialect.name == "postgresql":
            with psycopg.connect(database_url, autocommit=True) as other:
                ours = "datname = current_database() AND pid <> pg_backend_pid()"
                other.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
        return answer

    client, auth = app.test_client(), (USERNAME, PASSWORD)
    assert client.get(RAW_DATA, auth=auth).status_code == 200
    refused = client.post("/runapp/rawdata/split/", json={"raw_data_id": 7, "held_out_test": 0.5}, auth=auth)
    assert refused.status_code == 400
