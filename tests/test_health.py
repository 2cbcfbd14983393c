"""GET /healthz: what it says of database, queue and workers. test_worker.py has workers that live and die."""

from pathlib import Path

import redis
import rows
from flask import Flask
from rq import Worker

import jobs
from app import create_app
from config import Config


def test_idle_service_without_workers(app: Flask) -> None:
    answer = app.test_client().get("/healthz")
    assert answer.status_code == 200
    nothing = {"jobs": 0, "workers": 0, "last_heartbeat": None}
    assert answer.json == {"database": True, "queue": True, "queues": {"high": nothing, "low": nothing}}


def test_jobs_and_workers_are_counted_per_queue(app: Flask, queue: redis.Redis) -> None:
    with app.app_context():
        jobs.enqueue(rows.raw_data())
        worker = Worker([jobs.queue("low", queue)], connection=queue)
        worker.register_birth()
    queues = app.test_client().get("/healthz").json["queues"]
    assert (queues["high"]["jobs"], queues["high"]["workers"]) == (1, 0)
    assert (queues["low"]["jobs"], queues["low"]["workers"]) == (0, 1)
    worker.register_death()
    assert app.test_client().get("/healthz").json["queues"]["low"]["workers"] == 0


def test_worker_that_redis_has_forgotten_is_not_counted(app: Flask, queue: redis.Redis) -> None:
    worker = Worker([jobs.queue("low", queue)], connection=queue)
    worker.register_birth()
    queue.delete(worker.key)
    assert app.test_client().get("/healthz").json["queues"]["low"]["workers"] == 0


def test_queue_that_is_down_is_said_with_200(app: Flask) -> None:
    app.extensions["datarun_queue"] = jobs.connection(Config(REDIS_URL="redis://127.0.0.1:1"))
    answer = app.test_client().get("/healthz")
    assert answer.status_code == 200
    assert answer.json == {"database": True, "queue": False, "queues": None}


def test_database_that_is_gone_is_503(config: Config, tmp_path: Path) -> None:
    gone = Config(DATARUN_HOME=tmp_path, DATABASE_URL="postgresql://127.0.0.1:1/gone", REDIS_URL=config.REDIS_URL)
    answer = create_app(gone).test_client().get("/healthz")
    assert answer.status_code == 503
    assert answer.json["database"] is False
    assert answer.json["queue"] is True
