"""GET /metrics: what Prometheus reads."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from posts import IRIS
from prometheus_client.parser import text_string_to_metric_families
from rq import Worker

import jobs
from config import Config
from models import State, Submission, SubmissionFold, db
from servers import ROOT


def samples(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """Return the values by name and labels' values, the latter in the order of the labels' names."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, *(s.labels[name] for name in sorted(s.labels))): s.value for f in families for s in f.samples}


def add_fold(fold_id: int, **columns: Any) -> None:
    db.session.add(SubmissionFold(databoard_sf_id=fold_id, databoard_s=24, **columns))


@pytest.fixture
def submission(client: FlaskClient) -> None:
    client.post("/runapp/rawdata/", json=IRIS)
    with client.application.app_context():
        db.session.add(Submission(databoard_s_id=24, files_path="submissions/24", raw_data=1))
        db.session.commit()


def test_an_idle_service(database_url: str, client: FlaskClient) -> None:
    found = samples(client)
    assert found == {
        ("datarun_folds_undelivered",): 0,
        ("datarun_folds_waiting", "high"): 0,
        ("datarun_folds_waiting", "low"): 0,
        ("datarun_oldest_waiting_fold_seconds", "high"): 0,
        ("datarun_oldest_waiting_fold_seconds", "low"): 0,
        ("datarun_folds_ended",): 0,
        ("datarun_queue_up",): 1,
        ("datarun_queue_jobs", "high"): 0,
        ("datarun_queue_jobs", "low"): 0,
        ("datarun_workers", "high"): 0,
        ("datarun_workers", "low"): 0,
    }


def test_folds_are_counted_by_state_and_cause(
    database_url: str, app: Flask, client: FlaskClient, submission: None
) -> None:
    with app.app_context():
        add_fold(1, state=State.TESTED)
        add_fold(2, state=State.TESTED, new=False)
        add_fold(3, state=State.ERROR, cause="timeout")
        add_fold(4, state=State.ERROR, cause="memory", new=False)
        add_fold(5, state=State.ERROR, cause="memory")
        add_fold(6, state=State.TRAINED)
        db.session.commit()
    found = samples(client)
    assert {key[1:]: value for key, value in found.items() if key[0] == "datarun_folds"} == {
        ("", "TESTED"): 2,
        ("", "TRAINED"): 1,
        ("timeout", "ERROR"): 1,
        ("memory", "ERROR"): 2,
    }
    assert found["datarun_folds_undelivered",] == 1
    assert found["datarun_raw_data", ""] == 1


def test_waiting_folds_have_an_age(database_url: str, app: Flask, client: FlaskClient, submission: None) -> None:
    at = datetime.now(UTC)
    with app.app_context():
        for fold_id, seconds in enumerate((100, 5000, 30)):
            add_fold(fold_id, priority="H", queued_at=at - timedelta(seconds=seconds))
        add_fold(10, priority="L", token="claimed", queued_at=at - timedelta(seconds=9000))
        db.session.commit()
    found = samples(client)
    assert (found["datarun_folds_waiting", "high"], found["datarun_folds_waiting", "low"]) == (3, 0)
    assert 5000 <= found["datarun_oldest_waiting_fold_seconds", "high"] < 5060
    assert found["datarun_oldest_waiting_fold_seconds", "low"] == 0


def test_durations_and_memory_are_of_the_last_hour(
    database_url: str, app: Flask, client: FlaskClient, submission: None
) -> None:
    at = datetime.now(UTC)
    measures = {"validation_time": 0.5, "test_time": 0.25, "train_cpu_time": 4.0, "test_cpu_time": 0.2}
    with app.app_context():
        add_fold(1, train_time=1.0, train_memory=100_000.0, ended_at=at, state=State.TESTED, **measures)
        add_fold(2, train_time=3.0, train_memory=300_000.0, ended_at=at, state=State.ERROR, cause="memory", **measures)
        add_fold(3, train_time=900.0, ended_at=at - timedelta(hours=2), state=State.TESTED)
        add_fold(4, train_time=900.0, state=State.TRAINED)
        db.session.commit()
    found = samples(client)
    assert found["datarun_folds_ended",] == 2
    assert found["datarun_fold_seconds", "train", "mean"] == 2
    assert found["datarun_fold_seconds", "train", "max"] == 3
    assert found["datarun_fold_seconds", "validation", "mean"] == 0.5
    assert found["datarun_fold_cpu_seconds", "train", "max"] == 4
    assert found["datarun_fold_memory_bytes", "train", "max"] == 300_000_000


def test_queues_and_workers_are_counted(app: Flask, client: FlaskClient, queue: redis.Redis) -> None:
    with app.app_context():
        jobs.enqueue_all([jobs.fold_job(11, "a-task", "H", 24, "iris", None)])
    worker = Worker([jobs.queue("low", queue)], connection=queue)
    worker.register_birth()
    found = samples(client)
    assert (found["datarun_queue_jobs", "high"], found["datarun_queue_jobs", "low"]) == (1, 0)
    assert (found["datarun_workers", "high"], found["datarun_workers", "low"]) == (0, 1)
    worker.register_death()


def test_a_queue_that_is_down_is_said(app: Flask, client: FlaskClient) -> None:
    app.extensions["datarun_queue"] = jobs.connection(Config(REDIS_URL="redis://127.0.0.1:1"))
    found = samples(client)
    assert found["datarun_queue_up",] == 0
    assert ("datarun_workers", "low") not in found


@pytest.mark.parametrize(("package", "path"), [("prometheus_client", "/metrics"), ("rq_dashboard", "/rq/")])
def test_without_the_package_the_rest_works(config: Config, package: str, path: str) -> None:
    code = f"""
import sys; sys.modules[{package!r}] = None
from app import create_app; from config import Config; from models import db; from pathlib import Path
app = create_app(Config(DATARUN_HOME=Path({str(config.DATARUN_HOME)!r}), DATARUN_USERNAME="datarun",
                        DATARUN_PASSWORD="datarun", REDIS_URL={config.REDIS_URL!r}))
with app.app_context(): db.create_all()
client = app.test_client()
print(*(client.get(path, auth=("datarun", "datarun")).status_code for path in ({path!r}, "/runapp/rawdata/")))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    assert result.stdout == "404 200\n"
