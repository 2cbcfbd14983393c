"""What a platform gives: rediss:// with self-signed certificates, few database connections; dedicated workers."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import psycopg
import pytest
import redis
import rows
from posts import IRIS, NEW_FOLD, finish, set_split
from requests.auth import _basic_auth_str
from sqlalchemy import select, text
from workers import Running, application, asleep, final, iris_fold, split

import jobs
from app import create_app, init_migrations
from config import Config
from models import State, SubmissionFold, db
from postgresql import CONNECT_ARGS
from servers import PASSWORD, ROOT, USERNAME

PIECE = 65536  # bytes
N_LOW, N_HIGH = 2000, 10  # folds


@contextmanager
def encrypted(path: str) -> Iterator[str]:
    """Serve a queue server's socket by TLS, with a self-signed certificate; give the URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ROOT / "tests" / "self_signed.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener, context, path), daemon=True).start()
        yield f"rediss://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def accept(listener: socket.socket, context: ssl.SSLContext, path: str) -> None:
    with suppress(OSError):
        while True:
            client, _address = listener.accept()
            threading.Thread(target=relay, args=(client, context, path), daemon=True).start()


def relay(client: socket.socket, context: ssl.SSLContext, path: str) -> None:
    """Pass on what comes from either side, until one of them closes."""
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX) as server,
        context.wrap_socket(client, server_side=True) as plain,
    ):
        server.connect(path)
        back = threading.Thread(target=copy, args=(server, plain), daemon=True)
        back.start()
        copy(plain, server)
        back.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(PIECE):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def rediss_url(queue_url: str, queue: redis.Redis) -> Iterator[str]:
    with encrypted(queue_url.removeprefix("unix://")) as url:
        yield url


def test_a_self_signed_certificate_is_refused_by_default(config: Config, rediss_url: str) -> None:
    with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
        jobs.connection(replace(config, REDIS_URL=rediss_url)).ping()


def test_a_self_signed_certificate_is_taken_where_a_setting_says_so(config: Config, rediss_url: str) -> None:
    for patient in (False, True):
        with jobs.connection(replace(config, REDIS_URL=rediss_url, REDIS_CERTIFICATE="any"), patient) as connection:
            assert connection.ping()


def test_a_fold_is_trained_by_a_worker_that_reaches_the_queue_by_tls(
    start: Callable[..., Running], rediss_url: str
) -> None:
    start(REDIS_URL=rediss_url, REDIS_CERTIFICATE="any")
    assert final(iris_fold("logistic_regression")).state == State.TESTED


def connections(postgres_url: str, last: str = "%") -> int:
    """Return how many others are connected to the database, whose last statement is like `last`."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        [count] = connection.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE %s",
            [last],
        ).fetchone()
    return count


def test_a_worker_holds_no_connection_while_it_trains(
    start: Callable[..., Running], fast: Config, postgres_url: str
) -> None:
    app = create_app(replace(fast, DATABASE_URL=postgres_url))
    with app.app_context():
        rows.create_tables()
        start(DATABASE_URL=postgres_url, HEARTBEAT_INTERVAL=5.0, DEAD_AFTER=30.0, RECONCILE_INTERVAL=30.0)
        fold = asleep(iris_fold("sleeps"))
        db.session.rollback()
        db.engine.dispose()
        seen = [connections(postgres_url) for _ in range(50)]
        assert min(seen) == 0
        assert sum(n > 0 for n in seen) < 25  # its looks at whether the row is still its own, once a second
        assert final(fold).state == State.TESTED
        db.session.rollback()
        db.engine.dispose()


def test_the_connections_of_a_web_process_are_limited(config: Config, postgres_url: str) -> None:
    app = create_app(replace(config, DATABASE_URL=postgres_url, DATABASE_CONNECTIONS=2))

    def ask(_number: int) -> int:
        with app.app_context(), db.engine.connect() as connection:
            connection.execute(text("SELECT pg_sleep(0.05)"))
            return connections(postgres_url, "SELECT pg_sleep%")

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(ask, range(24))) == 2
    with app.app_context():
        db.engine.dispose()


SPLIT, NEW = "/runapp/rawdata/split/", "/runapp/testpredictions/new/"
FOLD, LISTED = "/runapp/submissionfold/11/", {"list_submission_fold": [11]}


def test_no_request_needs_a_second_connection(
    config: Config, password_hash: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.POOL_TIMEOUT", 0.5)
    one = replace(config, DATABASE_URL=postgres_url, DATABASE_CONNECTIONS=1)
    with application(one, password_hash) as app:
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = _basic_auth_str(USERNAME, PASSWORD)

        def status(method: str, url: str, body: dict | None = None, **headers: str) -> int:
            return client.open(url, method=method, json=body, headers=headers, buffered=True).status_code

        with app.app_context():
            db.engine.dispose()
        custom = IRIS | {"name": "custom", "files": {"data.py": "def prepare_data(raw_data_path): ..."}}
        assert status("POST", "/runapp/rawdata/", IRIS) == 201
        assert status("POST", "/runapp/rawdata/", custom) == 201
        assert status("POST", SPLIT, {"raw_data_id": 1, "held_out_test": 0.5}) == 200
        assert status("POST", SPLIT, {"raw_data_id": 1, "held_out_test": 0.9}) == 400
        assert status("POST", "/runapp/rawdata/customsplit/", {"raw_data_id": 2}) == 200
        set_split(app, split_state=State.DONE, n_train=6, n_test=2)
        assert status("POST", "/runapp/submissionfold/", NEW_FOLD) == 201
        assert status("POST", "/runapp/submissionfold/", NEW_FOLD | {"force": "submission_fold"}) == 201
        finish(app, 11)
        for body in ({}, {"raw_data_id": 1}):
            for headers in ({}, {"Accept": "application/x-npz"}):
                assert status("POST", NEW, body, **headers) == 200
        assert status("POST", "/runapp/testpredictions/list/", LISTED) == 200
        for url in ("/runapp/rawdata/", "/runapp/submissionfold/", "/runapp/submissionfold-light/", FOLD, "/metrics"):
            assert status("GET", url) == 200
        assert status("POST", f"{FOLD}cancel/") == 200
        assert status("POST", SPLIT, {"raw_data_id": 1, "held_out_test": 0.25, "force": True}) == 200
        assert status("DELETE", FOLD) == 204
        assert status("DELETE", "/runapp/rawdata/1/?force=true") == 204
        assert status("GET", "/healthz") == 200


def test_a_new_app_holds_no_connection_that_a_fork_would_share(config: Config, database_url: str) -> None:
    app = create_app(config)
    init_migrations(app)
    assert app.test_cli_runner().invoke(args=["first-run"]).exit_code == 0
    app = create_app(config)
    with app.app_context():
        assert db.engine.pool.checkedin() == 0


def test_a_connection_notices_a_network_that_is_gone(config: Config, postgres_url: str) -> None:
    """The kernel does it by these parameters of libpq; see the test of several hosts for a network that is cut."""
    app = create_app(replace(config, DATABASE_URL=postgres_url))
    with app.app_context(), db.engine.connect() as connection:
        used = connection.connection.driver_connection.info.get_parameters()
        assert {name: int(used[name]) for name in CONNECT_ARGS} == CONNECT_ARGS
    with app.app_context():
        db.engine.dispose()


def test_a_session_keeps_its_limits_when_its_transactions_end(config: Config, postgres_url: str) -> None:
    app = create_app(replace(config, DATABASE_URL=postgres_url))
    with app.app_context():
        for _ in range(2):
            with db.engine.connect() as connection:
                names = ("lock_timeout", "idle_in_transaction_session_timeout")
                assert [connection.scalar(text(f"SHOW {name}")) for name in names] == ["30s", "2min"]
                connection.rollback()
        db.engine.dispose()


def test_a_worker_for_high_priority_alone_does_not_wait_for_thousands_of_low_ones(
    start: Callable[..., Running], queue: redis.Redis
) -> None:
    start("high")
    start("low")
    data = split(rows.raw_data())
    asleep_for_long = rows.submission(data, "sleeps")
    assert jobs.enqueue_all(map(jobs.describe, rows.folds(asleep_for_long, N_LOW))) == N_LOW
    quick = rows.submission(data, "logistic_regression")
    for _ in range(N_HIGH):
        fold = rows.fold(quick, priority="H")
        assert jobs.enqueue(fold)
        assert final(fold).state == State.TESTED
    low = db.session.scalars(select(SubmissionFold.state).filter_by(databoard_s=asleep_for_long.databoard_s_id)).all()
    assert low.count(State.TESTED) < N_HIGH
    assert queue.llen("rq:queue:low") > N_LOW - 2 * N_HIGH
