"""rq-dashboard as a process of its own, on 127.0.0.1 alone, for the users of the service.

python dashboard.py     http://127.0.0.1:9181/rq/ (DASHBOARD_PORT), with the same REDIS_URL and DATABASE_URL
"""

import sys

from flask import Flask, redirect

import api
import web
from app import bare_app
from config import Config


def create_app(config: Config | None = None) -> Flask:
    """Return an application that has the dashboard and nothing else."""
    app = bare_app(config or Config.of_process())
    api.init_dashboard(app)
    app.add_url_rule("/", view_func=lambda: redirect("/rq/"), endpoint="start")
    return app


def main() -> None:
    """Become gunicorn, with the settings of `gunicorn.conf.py` but for the address."""
    if api.dashboard.web is None:
        sys.exit("rq-dashboard is not installed: pip install -r requirements.txt")
    address = f"127.0.0.1:{Config.of_process().DASHBOARD_PORT}"
    web.become("dashboard:create_app()", "--bind", address, "--workers", "1")


if __name__ == "__main__":
    main()
