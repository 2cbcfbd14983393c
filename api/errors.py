"""Every error as JSON: {"field": ["what was wrong, what is expected"]} for a 400, {"detail": "..."} for the rest."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

from flask import Flask, current_app, jsonify, request
from flask.typing import ResponseReturnValue
from gunicorn.http.errors import ParseException
from marshmallow import ValidationError
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException

import disk
from api.body import MULTIPART
from models import DATABASE_GONE, db

WAIT = {"Retry-After": "5"}  # seconds that a client is asked to wait for the database, or for room
DEADLOCK = "40P01"  # PostgreSQL's code of that error
MOST_RACES = 5  # that a request loses before it is given up


def refuse(field: str, sentence: str) -> NoReturn:
    """Answer 400; what the present transaction did is rolled back."""
    raise ValidationError({field: [sentence]})


def after_races(change: Callable) -> Callable:
    """Do `change`, a transaction, again when another request at the same instant has written the same rows.

    The second time, those rows are there to be seen, and are refused or built upon as any other.
    """

    @wraps(change)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for _ in range(MOST_RACES - 1):
            try:
                return change(*args, **kwargs)
            except (IntegrityError, OperationalError) as error:
                if isinstance(error, OperationalError) and not is_deadlock(error):
                    raise
                current_app.logger.info("lost a race; once more: %s", change.__name__)
                db.session.rollback()
        return change(*args, **kwargs)

    return wrapper


def is_deadlock(error: DBAPIError) -> bool:
    """Whether PostgreSQL has ended a transaction because it and another one waited for each other."""
    return getattr(error.orig, "sqlstate", None) == DEADLOCK


def init_app(app: Flask) -> None:
    app.register_error_handler(ValidationError, answer_refusal)
    app.register_error_handler(HTTPException, answer_http_error)
    for unreachable in (*DATABASE_GONE, PoolTimeout):
        app.register_error_handler(unreachable, answer_unavailable)
    app.register_error_handler(OSError, answer_full_disk)
    app.register_error_handler(ParseException, answer_broken_chunks)
    app.teardown_appcontext(end_session)  # comes before Flask-SQLAlchemy's own


def end_session(_error: BaseException | None) -> None:
    """Give up what was only read; a database that has gone meanwhile must not spoil the answer."""
    try:
        db.session.close()
    except DATABASE_GONE as error:
        current_app.logger.warning("the database has gone while a request was answered: %s", error)


def answer_refusal(error: ValidationError) -> ResponseReturnValue:
    return jsonify({field: listed(messages) for field, messages in error.normalized_messages().items()}), 400


def listed(messages: Any) -> list[str]:
    """Return a field's messages as a list; those of a list's items come as {position: messages}."""
    if isinstance(messages, dict):
        return [f"Item {position}: {text}" for position, texts in messages.items() for text in listed(texts)]
    return messages


def answer_http_error(error: HTTPException) -> ResponseReturnValue:
    """Keep the status and headers (Allow, for example) of Werkzeug's answer, and say it in JSON."""
    answer = error.get_response()
    answer.data = jsonify(detail=too_large() if error.code == 413 else error.description).data
    answer.content_type = "application/json"
    return answer


def too_large() -> str:
    """Say which limit the request's body is over, and how to send more."""
    largest, larger = current_app.config["MAX_BODY_SIZE"], current_app.config["MAX_UPLOAD_SIZE"]
    if request.mimetype == MULTIPART:
        bounds = f"{larger} MB and {request.max_form_parts} parts, its fields {largest} MB"
        return f"The body is too large: a multipart/form-data body may have {bounds}."
    return (
        f"The body is too large: a JSON or form body may have {largest} MB. "
        f"Send larger files as parts of multipart/form-data, which may have {larger} MB."
    )


def answer_full_disk(error: OSError) -> ResponseReturnValue:
    """Say that an upload found no room here; what else the system refuses is no answer of ours."""
    if not disk.is_full(error):
        raise error
    current_app.logger.error("an upload finds no room: %s", error)
    return jsonify(detail="There is no room for the upload for now; please try again."), 503, WAIT


def answer_broken_chunks(error: ParseException) -> ResponseReturnValue:
    """Say that a body in chunks is none; nothing that follows on the connection can be told apart."""
    return jsonify(detail=f"The chunks of the body cannot be read: {error}"), 400, {"Connection": "close"}


def answer_unavailable(error: DBAPIError | PoolTimeout) -> ResponseReturnValue:
    current_app.logger.error("the database cannot be used: %s", error)
    detail = "The database cannot be reached for now; please try again."
    return jsonify(detail=detail), 503, WAIT
