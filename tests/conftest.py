"""How the test run is spread over processes, and fixtures: an app, a client, and real servers. Nothing is faked."""

import base64
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import users
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash
from xdist.scheduler import LoadFileScheduling

import servers
from config import CORES, Config
from servers import PASSWORD, USERNAME, Service

users.claim()
signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends the run lets it end what it has started
if "PYTEST_XDIST_WORKER" in os.environ:
    servers.die_with_parent()


# ---- the test run in several processes: `-n`

LONGEST = [
    "test_hostile", "test_sandbox", "test_chaos", "test_races", "test_worker", "test_end_to_end", "test_demo",
    "test_hosts", "test_disk", "test_outages", "test_stopping", "test_dashboard", "test_migrations", "test_selftest",
    "test_openapi", "test_restore", "test_runner_python", "test_run", "test_cache", "test_removal", "test_load",
    "test_queue_server", "test_logs", "test_platform",
]  # fmt: skip
SHARED_MEMORY = ("test_hostile", "test_sandbox")  # what these leave in /dev/shm is looked for by its user


class ByFile(LoadFileScheduling):
    """Gives each process of the test run (`-n`) one file after another, whose tests share its fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return SHARED_MEMORY[0] if os.geteuid() and Path(scope).stem in SHARED_MEMORY else scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes `-n auto` starts: more than there are cores, as most of them wait most of the time."""
    return CORES + 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that none is still under way when the other processes are done."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


# ---- fixtures


@pytest.fixture(scope="session")
def queue_url() -> Iterator[str]:
    """The URL of a queue server that lives as long as the test run."""
    with servers.valkey() as url:
        yield url


@pytest.fixture
def queue(queue_url: str) -> Iterator[redis.Redis]:
    """A connection to an empty queue server."""
    with redis.Redis.from_url(queue_url) as connection:
        connection.flushall()
        yield connection


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with servers.postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with servers.postgres_database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of both kinds in turn. `config`, `app` and `client` of such a test use it."""
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else f"sqlite:///{tmp_path}/db"


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path, queue_url: str, queue: redis.Redis) -> Config:
    """Settings for a scratch instance with one user."""
    on_both = "database_url" in request.fixturenames
    return Config(
        DATARUN_HOME=tmp_path / "home",
        DATABASE_URL=request.getfixturevalue("database_url") if on_both else "",
        REDIS_URL=queue_url,
        DATARUN_USERNAME=USERNAME,
        DATARUN_PASSWORD=PASSWORD,
        SLOT_UID=users.user(0),
    )


@pytest.fixture(scope="session")
def password_hash() -> str:
    return generate_password_hash(PASSWORD, "scrypt:1024:8:1")  # quick to check: test_auth.py has what users get


@pytest.fixture
def app(config: Config, password_hash: str) -> Iterator[Flask]:
    """The web application on a database that has its tables, and one user."""
    from workers import application

    with application(config, password_hash) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Flask's test client, with the user's name and password in each request."""
    client = app.test_client()
    credentials = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Basic {credentials}"
    return client


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running web and worker; ask `servers.service` for one with settings of your own."""
    with servers.service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def fast(config: Config) -> Config:
    """The same settings, with a worker that notices in a second what takes half a minute by default."""
    from workers import FAST

    return replace(config, **FAST)


@pytest.fixture(scope="module")
def worker_of_a_file(tmp_path_factory: pytest.TempPathFactory, password_hash: str) -> Iterator[Any]:
    """A worker.py (workers.Running) on an embedded database and queue, in the context of their app."""
    from workers import FAST, instance

    home = tmp_path_factory.mktemp("shared")
    with instance(Config(DATARUN_HOME=home, SLOT_UID=users.user(0), **FAST), password_hash, home) as running:
        yield running


@pytest.fixture
def shared(worker_of_a_file: Any) -> Iterator[Any]:
    """The worker.py that the tests of a file share: each takes seconds to start."""
    from models import db

    before = len(worker_of_a_file.log())
    yield worker_of_a_file
    db.session.rollback()
    print(worker_of_a_file.log()[before:])  # where the test failed


@pytest.fixture
def start(fast: Config, app: Flask, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a worker.py (workers.Running), with settings of its own; at the end none of its processes is left.

    It runs behind the command `within`, which ends with the worker's own.
    """
    from workers import Running

    from models import db

    started: list[Running] = []

    def start(*queues: str, within: Sequence[str] = (), **settings: Any) -> Running:
        log = tmp_path / f"worker-{len(started)}.log"
        started.append(Running(replace(fast, **settings), log, queues, within))
        return started[-1]

    with app.app_context():
        yield start
        db.session.rollback()
    for running in started:
        running.end()
