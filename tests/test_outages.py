"""What clients and workers see while a part of the service is away. test_worker.py has workers without a database."""

import signal
import threading
from collections.abc import Callable
from dataclasses import replace

import psutil
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from workers import Running, final, fresh, iris_fold

import jobs
import servers
from config import Config
from models import LOCK_TIMEOUT, State, SubmissionFold, db


@pytest.mark.usefixtures("database_url")
def test_posts_are_accepted_and_read_while_the_queue_stands_still(
    start: Callable[..., Running], fast: Config, client: FlaskClient, app: Flask
) -> None:
    with servers.valkey() as url, redis.Redis.from_url(url) as queue:
        app.extensions["datarun_queue"] = jobs.connection(replace(fast, REDIS_URL=url))
        start(REDIS_URL=url)
        first = final(iris_fold("logistic_regression"))
        server = psutil.Process(queue.info("server")["process_id"])
        server.suspend()
        try:
            body = {"databoard_sf_id": 11, "databoard_s_id": first.databoard_s, "train_is": list(range(90))}
            assert client.post("/runapp/submissionfold/", json=body | {"test_is": []}).status_code == 201
            assert client.get("/runapp/submissionfold/11/").json["state"] == "TODO"
            [delivered] = client.post("/runapp/testpredictions/new/").json
            assert delivered["databoard_sf_id"] == first.databoard_sf_id
            health = client.get("/healthz")
            assert (health.status_code, health.json) == (200, {"database": True, "queue": False, "queues": None})
        finally:
            server.resume()
        fold = db.session.get(SubmissionFold, 11)
        assert (final(fold).state, fold.attempts) == (State.TESTED, 1)


def test_health_waits_for_no_lock_of_the_database(database_url: str, app: Flask) -> None:
    answers = []
    with app.app_context(), db.engine.execution_options(writes=True).connect() as connection:
        connection.execute(db.insert(db.metadata.tables["user"]).values(username="x", password_hash="x"))
        asking = threading.Thread(target=lambda: answers.append(app.test_client().get("/healthz").status_code))
        asking.start()
        asking.join(LOCK_TIMEOUT / 2000)
        assert answers == [200]


@pytest.mark.usefixtures("database_url")
def test_what_a_stopping_worker_gives_back_starts_before_it_is_gone(start: Callable[..., Running]) -> None:
    stopping = start(GRACE_PERIOD=0.5)
    fold = iris_fold("sleeps_past_limit")
    stopping.logged(f"fold {fold.databoard_sf_id}: attempt 1")
    other = start()
    other.logged("isolation:")
    zygote = stopping.zygote()
    zygote.suspend()  # the main process waits for its end
    try:
        stopping.process.send_signal(signal.SIGTERM)
        other.logged(f"fold {fold.databoard_sf_id}: attempt 1")
        assert stopping.process.poll() is None
    finally:
        zygote.resume()
    assert (fresh(fold).state, fold.attempts) == (State.TODO, 1)
