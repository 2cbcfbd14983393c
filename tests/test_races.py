"""The exact races: each stops real processes at one point, by a lock, a queue server that stands still, or a proxy."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
import requests
import rows
import users
from flask import Flask, current_app
from sqlalchemy import update
from workers import FAST, SOON, Running, asleep, final, fresh, instance, iris_fold, split

import jobs
import schemas
import servers
from config import Config
from models import State, SubmissionFold, db
from reconciliation import Reconciler
from servers import PASSWORD, ROOT, USERNAME, environment_of, free_port, wait_until

ENDED = "Attempt 1 ended without a result: its worker is gone."
on_sqlite = pytest.mark.parametrize("worker_of_a_file", ["sqlite"], indirect=True)  # where the database has no part


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


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def worker_of_a_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, password_hash: str
) -> Iterator[Running]:
    """A worker.py whose database and queue server are of this file alone, and may stand still."""
    home = tmp_path_factory.mktemp("races")
    config = Config(DATARUN_HOME=home, SLOT_UID=users.user(0), **FAST)
    with ExitStack() as stack:
        urls = {"REDIS_URL": stack.enter_context(servers.valkey())}
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres_server")
            urls["DATABASE_URL"] = stack.enter_context(servers.postgres_database(server))
        yield stack.enter_context(instance(replace(config, **urls), password_hash, home))


@pytest.fixture
def own_queue(shared: Running) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(shared.config.REDIS_URL) as connection:
        yield connection


@contextmanager
def standing_still_queue(own_queue: redis.Redis) -> Iterator[None]:
    with standing_still(psutil.Process(own_queue.info("server")["process_id"])):
        yield


# ---- killed at four points


def test_web_killed_between_commit_and_enqueue(shared: Running, own_queue: redis.Redis, tmp_path: Path) -> None:
    submission = rows.submission(split(rows.raw_data()))
    port = free_port()
    home = str(shared.config.DATARUN_HOME)
    urls = {"DATABASE_URL": shared.config.database_url, "REDIS_URL": shared.config.REDIS_URL}
    environment = environment_of(tmp_path, port, **urls | {"DATARUN_HOME": home})
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
        stack.enter_context(standing_still_queue(own_queue))
        posting = threading.Thread(target=post_and_lose)
        posting.start()
        wait_until(lambda: (db.session.rollback(), db.session.get(SubmissionFold, 11))[1], SOON, "the row is committed")
        for process in (*psutil.Process(web.pid).children(), psutil.Process(web.pid)):
            process.kill()
        posting.join()
    fold = db.session.get(SubmissionFold, 11)
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
    shared.logged("fold 11: has no live job, enqueued again")  # so nobody else had enqueued it


def answers(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{url}/healthz", timeout=5).ok
    return False


def test_worker_killed_between_dequeue_and_claim(shared: Running, own_queue: redis.Redis) -> None:
    data = split(rows.raw_data())
    fold = rows.fold(rows.submission(data))
    with locked(fold):
        jobs.enqueue(fold)
        wait_until(lambda: own_queue.llen("rq:queue:low") == 0, SOON, "the job is taken")
        shared.kill_workers()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)


def test_worker_killed_between_result_and_commit(shared: Running) -> None:
    fold = asleep(iris_fold("sleeps"))
    fold_id = fold.databoard_sf_id
    slot = shared.slot()
    with locked(fold):
        wait_until(lambda: not trains(slot), SOON, "the fold's process has ended")
        shared.kill_workers()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 2)
    assert ENDED in fold.log_messages
    shared.logged(f"fold {fold_id}: TESTED")
    assert shared.log().count(f"fold {fold_id}: TESTED") == 1


def trains(slot: psutil.Process) -> bool:
    """Whether a fold's process runs below the slot: each has a session of its own, and so has the one that waits."""
    sessions = set()
    for process in slot.children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            sessions.add(os.getsid(process.pid))
    return len(sessions - {os.getsid(slot.pid)}) > 1


def test_worker_killed_between_commit_and_acknowledgement(shared: Running, own_queue: redis.Redis) -> None:
    fold = asleep(iris_fold("sleeps"))
    with unanswered_writes(own_queue):
        ended_at = final(fold).ended_at
        workers = [worker.pid for worker in shared.workers()]
        shared.kill_workers()
        # gone altogether: a thread of a zombie may still hold its connection
        wait_until(lambda: not any(map(psutil.pid_exists, workers)), SOON, "the workers are gone")
        own_queue.ping()  # by its next command, the queue server has seen their connections end
    assert own_queue.exists(f"rq:job:{fold.task_id}")  # RQ was not told: it forgets what has ended
    later = rows.fold(fold.submission)
    jobs.enqueue(later)
    assert (final(later).state, later.attempts) == (State.TESTED, 1)
    assert (fresh(fold).state, fold.attempts, fold.ended_at) == (State.TESTED, 1, ended_at)


@contextmanager
def unanswered_writes(own_queue: redis.Redis) -> Iterator[None]:
    """Have the queue server leave writes undone, which it forgets with the connections that they came by."""
    own_queue.client_pause(1000 * SOON, all=False)
    try:
        yield
    finally:
        own_queue.client_unpause()


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


def test_fold_replaced_by_force_while_training(shared: Running) -> None:
    fold = asleep(iris_fold("sleeps"))
    body = {"databoard_sf_id": fold.databoard_sf_id, "databoard_s_id": fold.databoard_s, "force": "submission_fold"}
    body |= {"train_is": list(range(60)), "test_is": []}
    client = current_app.test_client()
    answer = client.post("/runapp/submissionfold/", json=body, auth=(USERNAME, PASSWORD))
    assert answer.status_code == 201
    shared.logged(f"fold {fold.databoard_sf_id}: replaced or gone, dropped")
    db.session.expire_all()
    fold = db.session.get(SubmissionFold, fold.databoard_sf_id)
    assert (final(fold).state, fold.attempts, fold.task_id) == (State.TESTED, 1, answer.json["task_id"])
    assert len(schemas.unpack_indices(fold.indices.train_is)) == 60
    shared.logged(f"fold {fold.databoard_sf_id}: TESTED")
    assert shared.log().count(f"fold {fold.databoard_sf_id}: TESTED") == 1


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


@pytest.mark.parametrize("step", [timedelta(days=-1), timedelta(days=1)])
def test_step_of_the_clock_costs_no_live_fold(shared: Running, step: timedelta) -> None:
    fold = asleep(iris_fold())
    step_clock(fold, step, "heartbeat_at", "started_at", "queued_at")
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)


def test_dead_execution_with_a_heartbeat_in_the_future_runs_again(shared: Running) -> None:
    fold = asleep(iris_fold())
    shared.kill_workers()
    step_clock(fold, timedelta(days=1), "heartbeat_at")
    assert (final(fold).state, fold.attempts) == (State.TESTED, 2)


def step_clock(fold: SubmissionFold, step: timedelta, *columns: str) -> None:
    """Change what a fold's row says of time, as if the database's clock had stepped since."""
    stepped = dict.fromkeys(columns, fold.heartbeat_at + step)
    db.session.execute(update(SubmissionFold).filter_by(databoard_sf_id=fold.databoard_sf_id).values(stepped))
    db.session.commit()


# ---- what dies, is left behind, or is away


@pytest.mark.parametrize("victim", ["worker", "slot"])
def test_fold_runs_again_after_kill_9(shared: Running, victim: str) -> None:
    fold = asleep(iris_fold("sleeps"))
    if victim == "worker":
        shared.kill_workers()
    else:
        shared.slot().kill()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 2)
    assert "Attempt 1 ended without a result" in fold.log_messages


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


def hasty_fold() -> SubmissionFold:
    """A fold, asleep, of a data set that soon lets its worker give up a runner that is silent."""
    data = split(rows.raw_data(time_limit=8.0))
    fold = rows.fold(rows.submission(data, "sleeps"))
    jobs.enqueue(fold)
    return asleep(fold)


@on_sqlite
def test_fold_whose_supervisor_stands_still_runs_again(shared: Running) -> None:
    fold = hasty_fold()
    supervisor = min(shared.slot().children(), key=psutil.Process.create_time)  # the first that the stem forked
    with standing_still(supervisor):
        wait_until(lambda: fresh(fold).attempts == 2, SOON, "it runs again")
    assert (final(fold).state, fold.attempts) == (State.TESTED, 2)
    assert "Attempt 1 ended without a result: the process that ran it was killed or stopped." in fold.log_messages


@on_sqlite
def test_fold_whose_stem_stands_still_runs_again(shared: Running) -> None:
    fold = hasty_fold()
    with standing_still(shared.slot()):  # its supervisor cannot end the fold's processes
        wait_until(lambda: fresh(fold).attempts == 2, SOON, "it runs again")
    assert (final(fold).state, fold.attempts) == (State.TESTED, 2)
    assert "Attempt 1 ended without a result: the process that ran it was killed or stopped." in fold.log_messages


@pytest.mark.parametrize("worker_of_a_file", ["postgresql"], indirect=True)
def test_result_is_kept_until_the_database_is_back(shared: Running, postgres_server: str) -> None:
    name = shared.config.DATABASE_URL.rpartition("/")[2]
    with psycopg.connect(postgres_server, autocommit=True) as server:
        fold = asleep(iris_fold("sleeps"))
        db.session.rollback()
        db.engine.dispose()
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        shared.logged("no database, trying again")
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert (final(fold).state, fold.attempts) == (State.TESTED, 1)


def test_posts_are_accepted_and_read_while_the_queue_stands_still(shared: Running, own_queue: redis.Redis) -> None:
    client = current_app.test_client()
    request = partial(client.open, auth=(USERNAME, PASSWORD))
    first = final(iris_fold("logistic_regression"))
    data_id = first.submission.raw_data
    with standing_still_queue(own_queue):
        body = {"databoard_sf_id": 12, "databoard_s_id": first.databoard_s, "train_is": list(range(90)), "test_is": []}
        assert request("/runapp/submissionfold/", method="POST", json=body).status_code == 201
        assert request("/runapp/submissionfold/12/").json["state"] == "TODO"
        [delivered] = request("/runapp/testpredictions/new/", method="POST", json={"raw_data_id": data_id}).json
        assert delivered["databoard_sf_id"] == first.databoard_sf_id
        health = request("/healthz")
        assert (health.status_code, health.json) == (200, {"database": True, "queue": False, "queues": None})
    fold = db.session.get(SubmissionFold, 12)
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
