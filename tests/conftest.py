"""Fixtures: a configuration, an app, a client, and real servers. Nothing is faked."""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis
import users
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

import servers
from config import Config
from servers import PASSWORD, USERNAME, Service

users.claim()


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
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY FILE_COPY")
        yield postgres_server.removesuffix("postgres") + name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


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
    return generate_password_hash(PASSWORD)  # once: it takes long by design


@pytest.fixture
def app(config: Config, password_hash: str) -> Iterator[Flask]:
    """The web application on a database that has its tables, and one user."""
    import rows

    from app import create_app
    from models import User, db

    app = create_app(config)
    with app.app_context():
        rows.create_tables()
        db.session.add(User(username=USERNAME, password_hash=password_hash))
        db.session.commit()
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


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


@pytest.fixture
def start(fast: Config, app: Flask, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a worker.py (workers.Running), with settings of its own; at the end none of its processes is left.

    It runs behind the command `within`, which ends with the worker's own.
    """
    from workers import SOON, Running

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
        if running.process.poll() is None:
            running.stop()
        servers.wait_until(lambda running=running: not running.left(), SOON, f"all gone: {running.left()}")
