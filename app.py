"""datarun: trains and tests machine-learning submissions on cross-validation folds, behind a REST API."""

from dataclasses import asdict

from flask import Flask
from flask_migrate import Migrate

import api
from config import Config
from models import db


def create_app(config: Config | None = None) -> Flask:
    """Return the web application; `config` comes from the environment unless it is given."""
    config = config or Config.from_environ()
    app = Flask(__name__, static_folder=None)
    app.config.from_mapping(asdict(config))
    app.config["SQLALCHEMY_DATABASE_URI"] = config.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(config)
    app.json.sort_keys = False
    config.DATARUN_HOME.mkdir(parents=True, exist_ok=True)
    db.init_app(app)
    Migrate(app, db, render_as_batch=True)
    api.init_app(app)
    return app


def engine_options(config: Config) -> dict[str, object]:
    """A connection that the server closed meanwhile is replaced; one that cannot be made fails soon."""
    if config.database_url.startswith("sqlite"):
        return {}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 5}}
