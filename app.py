"""datarun: trains and tests machine-learning submissions on cross-validation folds, behind a REST API."""

from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import click
from flask import Flask, request
from werkzeug.middleware.proxy_fix import ProxyFix

import secrecy
from config import Config
from models import db


class Application(Flask):
    def log_exception(self, exc_info: Any) -> None:
        """Log as Flask does, but no line that a client has broken."""
        self.logger.error("Exception on %s [%s]", quote(request.path), request.method, exc_info=exc_info)


def create_app(config: Config | None = None) -> Flask:
    """Return the web application; `config` comes from the environment unless it is given."""
    import api  # not above: workers do without it

    app = bare_app(config or Config.of_process())
    api.init_app(app)
    if click.get_current_context(silent=True):  # a command of flask
        init_migrations(app)
    return app


def init_migrations(app: Flask) -> None:
    """Have `flask db` know the database. Web and workers do without Alembic, which takes 9 MB of memory in each."""
    from flask_migrate import Migrate

    Migrate(app, db, render_as_batch=True)


def bare_app(config: Config) -> Flask:
    """Return an application with its settings and its database, and nothing to be asked for: what workers need."""
    secrecy.close_memory()
    app = Application(__name__, static_folder=None)
    app.config.from_mapping(asdict(config))
    app.extensions["datarun_config"] = config
    app.config["SQLALCHEMY_DATABASE_URI"] = config.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(config)
    app.json.sort_keys = False
    if hops := config.PROXY_HOPS:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)
    make_home(config.DATARUN_HOME)
    db.init_app(app)
    if file := database_file(app):
        secrecy.close_database(file)
    return app


def database_files(app: Flask) -> list[Path]:
    """Return all files of an SQLite database, those that are not there included: sqlite.org/tempfiles.html."""
    file = database_file(app)
    return [Path(f"{file}{ending}") for ending in ("", "-wal", "-shm", "-journal")] if file else []


def database_file(app: Flask) -> Path | None:
    """Return the file of an SQLite database; None where it is in memory, or another database."""
    with app.app_context():
        url = db.engine.url  # in which Flask-SQLAlchemy has completed a relative path, by `instance` in the checkout
    in_memory = url.database in (None, "", ":memory:") or url.query.get("mode") == "memory"
    if url.get_backend_name() != "sqlite" or in_memory:
        return None
    return Path(unquote(urlsplit(url.database).path) if "uri" in url.query else url.database)


def make_home(home: Path) -> None:
    """Make the folder of all that is kept here, through which folds' own users pass to their scratch."""
    try:
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"not started: DATARUN_HOME: {home} cannot be made: {error.strerror}") from None


KEPT_CONNECTIONS = 5  # that a web process keeps open when it has nothing to do
POOL_TIMEOUT = 10  # seconds that a request waits for a connection, before it is a 503


def engine_options(config: Config) -> dict[str, object]:
    """A connection that the server closed meanwhile is replaced; one that cannot be made fails soon."""
    if config.database_url.startswith("sqlite"):
        return {}
    from postgresql import CONNECT_ARGS  # which also has each connection made as it says

    kept = min(KEPT_CONNECTIONS, config.DATABASE_CONNECTIONS)
    pool = {"pool_size": kept, "max_overflow": config.DATABASE_CONNECTIONS - kept, "pool_timeout": POOL_TIMEOUT}
    return {"pool_pre_ping": True, "connect_args": CONNECT_ARGS, **pool}
