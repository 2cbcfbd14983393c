"""The exact races: each stops real processes at one point, by a lock, a queue server that stands still, or a proxy."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import redis
import requests
import rows
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from workers import SOON, Running, asleep, final, fresh, iris_fold, split

import jobs
import schemas
import servers
from config import Config
from models import State, SubmissionFold, db
from reconciliation import Reconciler
from servers import PASSWORD, ROOT, USERNAME, environment_of, free_port, wait_until

ENDED = "Attempt 1 ended without a result: its worker is gone."


@contextmanager
def locked(fold: SubmissionFold) -> Iterator[None]:
    """Keep everybody from writing the row; on SQLite, any row."""
    db.session.rollback()
    with db.engine.execution_options(writes=True).connect() as connection:
        connection.execute(update(SubmissionFold).filter_by(databoard_sf_id=fold.databoard_sf_id).values(new=True))
        yield
        connection.rollback()


@contextmanager
def standing_still(server: psutil.Process) -> Iterator[None]:
    server.suspend()
    try:
        yield
    finally:
        server.resume()


@pytest.fixture
def own_queue(fast: Config, app: Flask) -> Iterator[redis.Redis]:
    """A queue server of this test alone, which may stand still; the app uses it."""
    with servers.valkey() as url, redis.Redis.from_url(url) as connection:
        app.extensions["datarun_queue"] = jobs.connection(replace(fast, REDIS_URL=url))
        yield connection


def url_of(queue: redis.Redis) -> str:
    return f"unix://{queue.connection_pool.connection_kwargs['path']}"


def server_of(queue: redis.Redis) -> psutil.Process:
    return psutil.Process(queue.info("server")["process_id"])


def kill_workers(running: Running) -> None:
    """Kill the worker, and the reconciler with it: both are started again."""
    running.remember()
    for process in running.workers():
        process.kill()


# ---- killed at four points


@pytest.mark.usefixtures("database_url")
def test_web_killed_between_commit_and_enqueue(
    start: Callable[..., Running], fast: Config, own_queue: redis.Redis, tmp_path: Path
) -> None:
    running = start(REDIS_URL=url_of(own_queue))
    data = split(rows.raw_data())
    running.stop()
    submission = rows.submission(data)
    port = free_port()
    environment = environment_of(
        tmp_path, port, DATABASE_URL=fast.database_url, REDIS_URL=url_of(own_queue), DATARUN_HOME=str(fast.DATARUN_HOME)
    )
    body = {
        "databoard_sf_id": 11,
        "databoard_s_id": submission.databoard_s_id,
        "train_is": list(range(90)),
        "test_is": [],
    }
    url = f"http://127.0.0.1:{port}"

    def post_and_lose() -> None:
        with suppress(requests.ConnectionError):
            requests.post(f"{url}/runapp/submissionfold/", json=body, auth=(USERNAME, PASSWORD), timeout=SOON)

    with ExitStack() as stack:
        web = stack.enter_context(
            servers.running(["gunicorn", "app:create_app()"], tmp_path / "web.log", cwd=ROOT, env=environment)
        )
        wait_until(lambda: answers(url), SOON, "web answers")
        stack.enter_context(standing_still(server_of(own_queue)))
        posting = threading.Thread(target=post_and_lose)
        posting.start()
        wait_until(lambda: (db.session.rollback(), db.session.get(SubmissionFold, 11))[1], SOON, "the row is committed")
        for process in (*psutil.Process(web.pid).children(), psutil.Process(web.pid)):
            process.kill()
        posting.join()
    assert own_queue.llen("rq:queue:low") == 0
    start(REDIS_URL=url_of(own_queue))
    fold = db.session.get(SubmissionFold, 11)
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)


def answers(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{url}/healthz", timeout=5).ok
    return False


@pytest.mark.usefixtures("database_url")
def test_worker_killed_between_dequeue_and_claim(start: Callable[..., Running], queue: redis.Redis) -> None:
    running = start()
    data = split(rows.raw_data())
    fold = rows.fold(rows.submission(data))
    with locked(fold):
        jobs.enqueue(fold)
        wait_until(lambda: queue.llen("rq:queue:low") == 0, SOON, "the job is taken")
        kill_workers(running)
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)


@pytest.mark.usefixtures("database_url")
def test_worker_killed_between_result_and_commit(start: Callable[..., Running]) -> None:
    running = start()
    fold = asleep(iris_fold("sleeps"))
    fold_id = fold.databoard_sf_id
    [slot] = running.zygote().children()
    with locked(fold):
        wait_until(lambda: not trains(slot), SOON, "the fold's process has ended")
        kill_workers(running)
    assert (final(fold).state, fold.attempts) == (State.TESTED, 2)
    assert ENDED in fold.log_messages
    running.logged(f"fold {fold_id}: TESTED")
    assert running.log().count(f"fold {fold_id}: TESTED") == 1


def trains(slot: psutil.Process) -> bool:
    """Whether a fold's process runs below the slot: each has a session of its own, and so has the one that waits."""
    sessions = set()
    for process in slot.children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            sessions.add(os.getsid(process.pid))
    return len(sessions - {os.getsid(slot.pid)}) > 1


@pytest.mark.usefixtures("database_url")
def test_worker_killed_between_commit_and_acknowledgement(
    start: Callable[..., Running], own_queue: redis.Redis
) -> None:
    running = start(REDIS_URL=url_of(own_queue))
    fold = asleep(iris_fold("sleeps"))
    server = server_of(own_queue)
    with standing_still(server):
        ended_at = final(fold).ended_at
        kill_workers(running)
    assert own_queue.zcard("rq:wip:low") == 1  # RQ thinks that it runs
    later = rows.fold(fold.submission)
    jobs.enqueue(later)
    assert (final(later).state, later.attempts) == (State.TESTED, 1)
    assert (fresh(fold).state, fold.attempts, fold.ended_at) == (State.TESTED, 1, ended_at)


class LosingProxy:
    """Relays connections to PostgreSQL; once, it swallows the answer to a COMMIT of predictions, and hangs up."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.lost = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                silent = threading.Event()
                threading.Thread(target=self._to_server, args=(client, server, silent), daemon=True).start()
                threading.Thread(target=self._to_client, args=(server, client, silent), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        sent = b""
        with suppress(OSError):
            while piece := client.recv(65536):
                sent += piece
                if b"INSERT INTO fold_predictions" in sent and b"COMMIT" in piece and not self.lost.is_set():
                    silent.set()
                server.sendall(piece)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _to_client(self, server: socket.socket, client: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):
            while piece := server.recv(65536):
                if silent.is_set() and not self.lost.is_set():
                    self.lost.set()
                    break
                client.sendall(piece)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_commit_whose_answer_is_lost_is_one_result(start: Callable[..., Running], database_url: str) -> None:
    port = int(database_url.rpartition(":")[2].partition("/")[0])
    proxy = LosingProxy(port)
    running = start(DATABASE_URL=database_url.replace(f":{port}/", f":{proxy.port}/"))
    fold = iris_fold()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
    assert proxy.lost.wait(SOON)
    running.logged(f"fold {fold.databoard_sf_id}: no database, trying again")
    running.logged(f"fold {fold.databoard_sf_id}: TESTED")
    assert (fresh(fold).state, fold.attempts) == (State.TESTED, 1)
    assert running.stop() == 0
    proxy.close()


# ---- replaced while it trains


@pytest.mark.usefixtures("database_url")
def test_fold_replaced_by_force_while_training(start: Callable[..., Running], client: FlaskClient) -> None:
    running = start()
    fold = asleep(iris_fold("sleeps"))
    body = {"databoard_sf_id": fold.databoard_sf_id, "databoard_s_id": fold.databoard_s, "force": "submission_fold"}
    answer = client.post("/runapp/submissionfold/", json=body | {"train_is": list(range(60)), "test_is": []})
    assert answer.status_code == 201
    running.logged(f"fold {fold.databoard_sf_id}: replaced or gone, dropped")
    db.session.expire_all()
    fold = db.session.get(SubmissionFold, fold.databoard_sf_id)
    assert (final(fold).state, fold.attempts, fold.task_id) == (State.TESTED, 1, answer.json["task_id"])
    assert len(schemas.unpack_indices(fold.indices.train_is)) == 60
    running.logged(f"fold {fold.databoard_sf_id}: TESTED")
    assert running.log().count(f"fold {fold.databoard_sf_id}: TESTED") == 1


# ---- reconcilers


@pytest.mark.usefixtures("database_url")
def test_reconcilers_at_the_same_instant_enqueue_a_fold_once(config: Config, app: Flask, queue: redis.Redis) -> None:
    n = 4
    times = [0.0]
    barrier = threading.Barrier(n)
    repaired = []

    def look_twice() -> None:
        with app.app_context():
            reconciler = Reconciler(config, queue, lambda: times[0])
            reconciler._lead = lambda: True  # all of them
            reconciler.run()
            if barrier.wait() == 0:
                times[0] += config.RECONCILE_INTERVAL
            barrier.wait()
            repaired.append(reconciler.run())

    with app.app_context():
        fold = rows.fold(rows.submission(rows.split_raw_data()), 11)
        threads = [threading.Thread(target=look_twice) for _ in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(repaired) == [0] * (n - 1) + [1]
        assert queue.lrange("rq:queue:low", 0, -1) == [fresh(fold).task_id.encode()]


# ---- clocks: that of the database counts, and only its changes


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("step", [timedelta(days=-1), timedelta(days=1)])
def test_step_of_the_clock_costs_no_live_fold(start: Callable[..., Running], step: timedelta) -> None:
    running = start()
    fold = asleep(iris_fold())
    stepped = fold.heartbeat_at + step
    db.session.execute(update(SubmissionFold).values(heartbeat_at=stepped, started_at=stepped, queued_at=stepped))
    db.session.commit()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
    assert "no live job" not in running.log()


@pytest.mark.usefixtures("database_url")
def test_dead_execution_with_a_heartbeat_in_the_future_runs_again(start: Callable[..., Running]) -> None:
    running = start()
    fold = asleep(iris_fold())
    kill_workers(running)
    db.session.execute(update(SubmissionFold).values(heartbeat_at=fold.heartbeat_at + timedelta(days=1)))
    db.session.commit()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 2)


# ---- what is left behind


def test_fold_that_outlives_its_main_process_is_left_alone_by_the_next(start: Callable[..., Running]) -> None:
    """The platform starts another worker.py while workers of one that was killed finish what they run."""
    killed = start(GRACE_PERIOD=20)
    fold = asleep(iris_fold("reads_its_files_late"))
    killed.remember()
    killed.process.kill()
    started = start()
    started.logged("isolation:")
    data = fold.submission.raw_data_row
    db.session.rollback()
    later = rows.fold(rows.submission(data))
    jobs.enqueue(later)
    assert (final(later).state, later.attempts) == (State.TESTED, 1)
    assert (final(fold).state, fold.attempts, fold.cause) == (State.TESTED, 1, None)


def test_fold_whose_supervisor_stands_still_runs_again(start: Callable[..., Running]) -> None:
    running = start(TIME_LIMIT=8)
    fold = asleep(iris_fold())
    [slot] = running.zygote().children()
    supervisor = min(slot.children(), key=psutil.Process.create_time)  # the other one gets ready for its turn
    with standing_still(supervisor):
        wait_until(lambda: fresh(fold).attempts == 2, SOON, "it runs again")
    assert (final(fold).state, fold.attempts) == (State.TESTED, 2)
    assert "Attempt 1 ended without a result: the process that ran it was killed or stopped." in fold.log_messages


def test_fold_whose_slot_stands_still_runs_again(start: Callable[..., Running]) -> None:
    running = start(TIME_LIMIT=8)
    first = asleep(iris_fold())
    [slot] = running.zygote().children()
    wait_until(lambda: len(slot.children()) == 2, SOON, "the next supervisor is there")
    with standing_still(slot):
        assert (final(first).state, first.attempts) == (State.TESTED, 1)
        second, later = rows.fold(first.submission), rows.fold(first.submission)
        jobs.enqueue(second)
        assert (final(second).state, second.attempts) == (State.TESTED, 1)  # by the supervisor that waited for its turn
        jobs.enqueue(later)
        wait_until(lambda: fresh(later).attempts == 2, SOON, "it runs again")
    assert (final(later).state, later.attempts) == (State.TESTED, 2)
