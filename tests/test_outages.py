"""What clients and workers see while a part of the service is away. test_worker.py has workers without a database."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest
import rows
from flask import Flask
from flask.testing import FlaskClient
from posts import IRIS
from requests.auth import _basic_auth_str
from workers import FAST, SOON, Running, application, asleep, final, fresh, iris_fold, split

import jobs
import post_api
import postgresql
import recording
import servers
from config import Config
from models import DATABASE_GONE, LOCK_TIMEOUT, RawData, State, db
from servers import PASSWORD, USERNAME, wait_until


def test_health_waits_for_no_lock_of_the_database(database_url: str, app: Flask) -> None:
    answers = []
    with app.app_context(), db.engine.execution_options(writes=True).connect() as connection:
        connection.execute(db.insert(db.metadata.tables["user"]).values(username="x", password_hash="x"))
        asking = threading.Thread(target=lambda: answers.append(app.test_client().get("/healthz").status_code))
        asking.start()
        asking.join(LOCK_TIMEOUT / 2000)
        assert answers == [200]


# ---- PostgreSQL that answers, but not as usual

UNAVAILABLE = 503, {"detail": "The database cannot be reached for now; please try again."}
RAW_DATA, SPLIT = "/runapp/rawdata/", "/runapp/rawdata/split/"
HALF = {"raw_data_id": 1, "held_out_test": 0.5}


@pytest.fixture
def on_postgres(config: Config, password_hash: str, postgres_url: str) -> Iterator[FlaskClient]:
    """A client of an application on PostgreSQL, in its context, which has a data set."""
    with application(replace(config, DATABASE_URL=postgres_url), password_hash) as app, app.app_context():
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = _basic_auth_str(USERNAME, PASSWORD)
        assert client.post(RAW_DATA, json=IRIS).status_code == 201
        yield client


def answer(client: FlaskClient, url: str, body: dict) -> tuple[int, dict]:
    """Post; return the status and what came."""
    answered = client.post(url, json=body)
    return answered.status_code, answered.json


def claimed() -> recording.Claim:
    data = rows.raw_data()
    claim = recording.claim(RawData, data.id, data.task_id, max_attempts=3)
    assert claim is not None
    return claim


def test_a_row_that_another_session_locks_is_not_waited_for_without_end(
    on_postgres: FlaskClient, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed()
    monkeypatch.setattr(postgresql, "SETTINGS", postgresql.SETTINGS.replace(str(LOCK_TIMEOUT), "100"))
    db.session.remove()
    db.engine.dispose()
    with psycopg.connect(postgres_url) as operator:
        operator.execute("SELECT id FROM raw_data FOR UPDATE")
        assert answer(on_postgres, SPLIT, HALF) == UNAVAILABLE
        with pytest.raises(DATABASE_GONE):  # a worker tries again
            claim.heartbeat()
        assert on_postgres.get(RAW_DATA).status_code == 200
    assert answer(on_postgres, SPLIT, HALF)[0] == 200
    assert claim.heartbeat()


def set_read_only(postgres_url: str, value: str) -> None:
    """Let the database's sessions, from the next one on, write or not, as after a failover."""
    with psycopg.connect(postgres_url, autocommit=True) as operator:
        operator.execute("SET default_transaction_read_only = off")
        operator.execute(f"ALTER DATABASE {operator.info.dbname} SET default_transaction_read_only = {value}")


def test_a_database_that_takes_no_writes_is_one_that_is_gone(on_postgres: FlaskClient, postgres_url: str) -> None:
    set_read_only(postgres_url, "on")
    db.session.remove()
    db.engine.dispose()
    assert on_postgres.get(RAW_DATA).status_code == 200
    assert answer(on_postgres, SPLIT, HALF) == UNAVAILABLE
    set_read_only(postgres_url, "off")  # or, by the same address, there is another server
    assert answer(on_postgres, SPLIT, HALF)[0] == 200


def test_a_server_that_stands_still_is_not_waited_for_without_end(
    on_postgres: FlaskClient, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel answers all the same, so that no parameter of the connection notices."""
    monkeypatch.setattr(postgresql.Connection, "answer_timeout", 0.5)
    db.session.remove()
    with psycopg.connect(postgres_url) as operator:  # open until the end: each of these processes stays
        server = psutil.Process(operator.info.backend_pid).parent()
        processes = [server, *server.children()]
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # one of the server's own that has just ended
                process.suspend()
        try:
            assert answer(on_postgres, SPLIT, HALF) == UNAVAILABLE
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()
    assert answer(on_postgres, SPLIT, HALF)[0] == 200


# ---- workers


def test_a_fold_that_is_removed_before_it_is_read_is_dropped(
    start: Callable[..., Running], fast: Config, password_hash: str, postgres_url: str
) -> None:
    on_postgres = replace(fast, DATABASE_URL=postgres_url)
    with application(on_postgres, password_hash) as app, app.app_context():
        running = start(DATABASE_URL=postgres_url)
        fold = rows.fold(rows.submission(split(rows.raw_data()), "logistic_regression"))
        with psycopg.connect(postgres_url) as other:
            other.execute("LOCK TABLE fold_indices")  # which a worker reads once it has claimed the fold
            jobs.enqueue(fold)
            wait_until(lambda: fresh(fold).token, SOON, "it is claimed")
            other.execute("DELETE FROM submission_fold")
        running.logged(f"fold {fold.databoard_sf_id}: replaced or gone, dropped")
        assert "Traceback" not in running.log()


def test_a_job_whose_row_stays_locked_is_left_to_reconciliation_in_one_line(
    start: Callable[..., Running], fast: Config, password_hash: str, postgres_url: str
) -> None:
    on_postgres = replace(fast, DATABASE_URL=postgres_url)
    with application(on_postgres, password_hash) as app, app.app_context(), psycopg.connect(postgres_url) as other:
        other.execute(f"ALTER DATABASE {other.info.dbname} SET statement_timeout = '3s'")  # less than lock_timeout
        other.commit()
        running = start(DATABASE_URL=postgres_url)
        fold = rows.fold(rows.submission(split(rows.raw_data()), "logistic_regression"))
        other.execute("SELECT 1 FROM submission_fold FOR UPDATE")
        jobs.enqueue(fold)
        running.logged(": ended without a record: canceling statement due to statement timeout")
        other.rollback()
        assert final(fold).state == State.TESTED
        assert "Traceback" not in running.log()


def test_a_worker_keeps_its_result_while_the_database_takes_no_writes(
    start: Callable[..., Running], fast: Config, password_hash: str, postgres_url: str
) -> None:
    with application(replace(fast, DATABASE_URL=postgres_url), password_hash) as app, app.app_context():
        running = start(DATABASE_URL=postgres_url, DEAD_AFTER=20.0)
        fold = asleep(iris_fold("sleeps"))
        set_read_only(postgres_url, "on")
        running.logged(f"fold {fold.databoard_sf_id}: no database, trying again: cannot execute UPDATE in a read-only")
        set_read_only(postgres_url, "off")
        assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
        assert "Traceback" not in running.log()


def test_a_result_that_cannot_be_written_in_time_is_given_up_once(
    start: Callable[..., Running], fast: Config, password_hash: str, postgres_url: str
) -> None:
    with application(replace(fast, DATABASE_URL=postgres_url), password_hash) as app, app.app_context():
        running = start(DATABASE_URL=postgres_url, DELIVERY_LIMIT=1.0)
        fold = asleep(iris_fold("sleeps"))
        set_read_only(postgres_url, "on")
        running.logged(": ended without a record: cannot execute UPDATE in a read-only transaction")
        set_read_only(postgres_url, "off")
        assert (final(fold).state, fold.attempts) == (State.TESTED, 2)
        assert "its worker is gone" in fold.log_messages
        assert "Traceback" not in running.log()


@pytest.mark.usefixtures("database_url")
def test_what_a_stopping_worker_gives_back_starts_before_it_is_gone(start: Callable[..., Running]) -> None:
    stopping = start(GRACE_PERIOD=0.5, TIME_LIMIT=SOON)  # the other may take long to start
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


def test_a_machine_that_restarts_goes_on(tmp_path: Path) -> None:
    """All processes end at the same instant, the embedded queue server's too; then web and worker are started again."""
    soon = {name: str(value) for name, value in FAST.items()} | {"WORKER_CONCURRENCY": "2"}
    with servers.service(tmp_path, REDIS_URL="", **soon) as service:
        at = (service.base_url, *service.auth)
        (tmp_path / "iris.csv").write_bytes(rows.iris_csv())
        data_id = post_api.post_data(*at, "iris", "target", "classifier", str(tmp_path / "iris.csv")).json()["id"]
        post_api.post_split(*at, 0.2, data_id).raise_for_status()
        code = [str(rows.SUBMISSIONS / "sleeps" / "classifier.py")]
        folds = [1, 2, 3, 4]
        for fold_id in folds:
            posted = post_api.post_submission_fold(*at, 1, fold_id, range(90), [100], "L", data_id, code)
            assert posted.status_code == 201
        run = lambda: [fold for fold in post_api.get_submission_fold(*at).json() if fold["log_messages"]]  # noqa: E731
        wait_until(run, SOON, "a fold runs, others wait")
        processes = service.processes()
        for process in processes:
            process.suspend()
        for process in processes:
            process.kill()
        wait_until(lambda: not service.processes(), SOON, "nothing runs")
        with service.run():
            assert set(post_api.wait_for_folds(*at, folds, 2 * SOON).values()) == {"TESTED"}
            assert [fold["databoard_sf_id"] for fold in post_api.get_prediction_new(*at).json()] == folds
    assert [path for path in (tmp_path / "scratch").iterdir() if path.suffix != ".lock"] == []
