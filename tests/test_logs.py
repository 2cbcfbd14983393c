"""What the processes log, for people and for machines."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import logs
import servers


@pytest.fixture
def formatter() -> logging.Formatter:
    return logs.JSONFormatter()


def record(message: str, *args: object, name: str = "worker", **more: object) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.INFO, __file__, 1, message, args, None)
    made.created, made.msecs, made.process = 1795515302.513, 513.0, 4711
    vars(made).update(more)
    return made


def test_a_line_for_machines_is_one_object(formatter: logging.Formatter) -> None:
    text = formatter.format(record("fold %d: attempt %d\nand \N{SNOWMAN}", 12, 1))
    assert text.count("\n") == 0
    assert json.loads(text) == {
        "time": "2026-11-24T10:15:02.513Z",
        "level": "INFO",
        "logger": "worker",
        "process": 4711,
        "message": "fold 12: attempt 1\nand \N{SNOWMAN}",
        "fold": 12,
    }


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("fold 12: timeout", {"fold": 12}),
        ("split of data set 3: DONE", {"raw_data": 3}),
        ("raw data 3: POST", {"raw_data": 3}),
        ("job 3: gone", {}),
        ("no fold 12: here", {}),
    ],
)
def test_the_id_is_a_field(formatter: logging.Formatter, message: str, found: dict) -> None:
    fields = json.loads(formatter.format(record(message)))
    assert {name: fields[name] for name in ("fold", "raw_data") if name in fields} == found


def test_an_exception_is_a_field(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("of a test")
    except ValueError as error:
        raised = (ValueError, error, error.__traceback__)
    fields = json.loads(formatter.format(record("fold 12: failed", exc_info=raised)))
    assert fields["exception"].startswith("Traceback")
    assert fields["exception"].endswith("ValueError: of a test")


@pytest.fixture(scope="module", params=["line", "json"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """The format, and what web and worker have logged in a short life."""
    home: Path = tmp_path_factory.mktemp("logs")
    with servers.service(home, LOG_FORMAT=request.param) as service:
        url = f"{service.base_url}/runapp/rawdata/"
        data = {"name": "iris", "target_column": "y", "workflow_elements": "classifier"}
        requests.post(url, json=data | {"files": {"x.csv": "x,y\n1,2\n"}}, auth=service.auth, timeout=30)
        requests.get(url, auth=service.auth, timeout=30)
    yield request.param, (home / "web.log").read_text(), (home / "worker.log").read_text()


def test_each_line_of_a_service_is_in_the_format(log: tuple[str, str, str]) -> None:
    log_format, *texts = log
    for text in texts:
        assert text
        for line in text.splitlines():
            if log_format == "json":
                assert {"time", "level", "logger", "process", "message"} <= json.loads(line).keys()
            else:
                assert line[:4].isdigit(), line  # the date comes first


def test_a_change_is_logged_once_and_for_machines_each_request(log: tuple[str, str, str]) -> None:
    log_format, web, _ = log
    if log_format == "line":
        assert web.count("POST /runapp/rawdata/ by datarun from 127.0.0.1: 201") == 1
        assert "GET /runapp/rawdata/" not in web
        return
    lines = [json.loads(line) for line in web.splitlines()]
    expected = {"method": "POST", "path": "/runapp/rawdata/", "user": "datarun", "address": "127.0.0.1", "status": 201}
    [change] = [line for line in lines if line["logger"] == "api.guard"]
    assert {name: change[name] for name in expected} == expected
    answered = [line for line in lines if line["logger"] == "gunicorn.access" and line["path"] == "/runapp/rawdata/"]
    assert [(line["method"], line["user"], line["status"]) for line in answered] == [
        ("POST", "datarun", "201"),
        ("GET", "datarun", "200"),
    ]
    assert "authorization" not in web.lower()
