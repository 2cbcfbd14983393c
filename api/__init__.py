"""The web API: one blueprint per resource, below /runapp/; and what is for people and machines that watch it."""

from flask import Blueprint, Flask, abort, request
from werkzeug.routing import IntegerConverter

from api import (
    auth,
    body,
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
from models import MAX_INTEGER


class Id(IntegerConverter):
    """An integer in an address, in the digits of ASCII alone."""

    regex = "[0-9]+"


blueprint = Blueprint("runapp", __name__, url_prefix="/runapp")
for resource in (rawdata, submissionfold, testpredictions):
    blueprint.register_blueprint(resource.blueprint)


@blueprint.before_request
def find_no_large_id() -> None:
    """Answer 404 for ids in the URL that no row can have (a converter's maximum would make it a 405 of some URLs)."""
    for value in (request.view_args or {}).values():
        if value > MAX_INTEGER:
            abort(404, f"There is no id {value}.")


def init_app(app: Flask) -> None:
    """Have the application serve everything."""
    app.request_class = body.Request
    app.url_map.converters["int"] = Id
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
