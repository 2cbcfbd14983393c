"""The web API: one blueprint per resource, below /runapp/; and what is for people and machines that watch it."""

from flask import Blueprint, Flask

from api import (
    auth,
    dashboard,
    errors,
    guard,
    health,
    metrics,
    openapi,
    rawdata,
    submissionfold,
    testpredictions,
    users,
)  # fmt: skip

blueprint = Blueprint("runapp", __name__, url_prefix="/runapp")
for resource in (rawdata, submissionfold, testpredictions):
    blueprint.register_blueprint(resource.blueprint)


def init_app(app: Flask) -> None:
    """Have the application serve everything."""
    for part in (blueprint, health.blueprint, users.blueprint):
        app.register_blueprint(part)
    openapi.init_app(app)
    metrics.init_app(app)
    init_dashboard(app)


def init_dashboard(app: Flask) -> None:
    """Have the application serve the dashboard, to users alone."""
    guard.init_app(app)
    errors.init_app(app)
    dashboard.init_app(app)
    auth.init_app(app)
