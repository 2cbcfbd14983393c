"""The web API: one blueprint per resource, below /runapp/."""

from flask import Blueprint, Flask, request
from flask.typing import ResponseReturnValue

from api import auth, errors, health, openapi, rawdata, submissionfold, testpredictions, users
from api.body import bound_body

blueprint = Blueprint("runapp", __name__, url_prefix="/runapp")
for resource in (rawdata, submissionfold, testpredictions):
    blueprint.register_blueprint(resource.blueprint)


@blueprint.before_app_request
def authenticate() -> ResponseReturnValue | None:
    """Refuse everything under /runapp/ without credentials, unknown addresses too; then look at what is sent."""
    bound_body()
    return check_credentials() if request.path.startswith("/runapp") else None


@auth.auth.login_required
def check_credentials() -> None:
    """Let the request pass."""


def init_app(app: Flask) -> None:
    for part in (blueprint, health.blueprint, users.blueprint):
        app.register_blueprint(part)
    errors.init_app(app)
    openapi.init_app(app)
    auth.init_app(app)
