"""What each request passes before its view, and what is noted of it after.

A request that changes something is refused where a browser says that another site made it; everything below PROTECTED
needs credentials. Each that would change something is logged with its user.
"""

import logging
from urllib.parse import quote

from flask import Flask, Response, abort, g, request
from flask.typing import ResponseReturnValue

from api.auth import auth
from api.body import bound_body

PROTECTED = ("/runapp", "/rq", "/metrics")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
CROSS_SITE = "A page of another site made this request; expected a page of {own}, or a program."
BROWSER_RULES = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # a frame in another site's page could have its buttons clicked
}

log = logging.getLogger(__name__)


def init_app(app: Flask) -> None:
    app.before_request(refuse_other_sites)
    app.before_request(authenticate)
    app.after_request(note)
    app.after_request(rule_browsers)


def refuse_other_sites() -> None:
    """Answer 403 to a change that a page of another site asks for, with the credentials that its browser holds.

    Browsers say where a request comes from by Origin and, to https and localhost, by Sec-Fetch-Site; no page can
    change the two. Programs send neither. A proxy before us may speak another scheme, so that only hosts are compared.
    """
    if request.method in SAFE_METHODS:
        return
    origin = request.headers.get("Origin")
    own = origin is None or origin.partition("://")[2].lower() == request.host.lower()
    if not own or request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        abort(403, CROSS_SITE.format(own=request.host_url))


def authenticate() -> ResponseReturnValue | None:
    """Refuse everything below PROTECTED without credentials, unknown addresses too; then look at what is sent."""
    bound_body()
    return check_credentials() if request.path.startswith(PROTECTED) else None


@auth.login_required
def check_credentials() -> None:
    """Let the request pass."""


def note(answer: Response) -> Response:
    """Log a request that would change something; a view says in `g.about` what, such as "fold 12"."""
    if request.method not in SAFE_METHODS:
        fields = {
            "method": request.method,
            "path": quote(request.path),
            "user": auth.current_user() or "-",
            "address": request.remote_addr or "-",
            "status": answer.status_code,
        }
        line = "%(method)s %(path)s by %(user)s from %(address)s: %(status)d"
        log.info(f"{g.about}: {line}" if "about" in g else line, fields, extra={"request": fields})
    return answer


def rule_browsers(answer: Response) -> Response:
    answer.headers.update(BROWSER_RULES)
    return answer
