"""What a request sends, in three forms: JSON, a form, or a form with files. Each is bounded before it is read."""

import io
import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import flask
from flask import current_app, request
from marshmallow import Schema, ValidationError
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, UnsupportedMediaType
from werkzeug.formparser import FormDataParser

from files import Spool
from schemas import MB, Files, shown

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
IDENTITY = "identity"  # the Content-Encoding of what is sent as it is
READ_SIZE = 2**20  # bytes asked of the server at once


class FormParser(FormDataParser):
    """Reads MBs where Werkzeug reads 64 kB: at each read, gunicorn copies what is left of the MB that it received.

    A form that cannot be read is an error: Werkzeug's own would pass for an empty one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "silent": False})

    def parse(self, stream: io.RawIOBase, *args: Any, **kwargs: Any) -> Any:
        buffered = io.BufferedReader(stream, READ_SIZE)
        try:
            _, form, files = super().parse(buffered, *args, **kwargs)
        finally:
            buffered.detach()  # or the stream would be closed with it
        return stream, form, files


class Request(flask.Request):
    form_data_parser_class = FormParser

    def _get_file_stream(self, *_: Any, **__: Any) -> Spool:
        """Werkzeug calls this, as documented, for the file that a part is written to."""
        return Spool()


def bound_body() -> None:
    """Limit the present request's body: files may be large, as they are spooled to disk; the rest is held in memory."""
    config = current_app.config
    is_multipart = request.mimetype == MULTIPART
    request.max_content_length = config["MAX_UPLOAD_SIZE" if is_multipart else "MAX_BODY_SIZE"] * MB
    request.max_form_memory_size = config["MAX_BODY_SIZE"] * MB


def takes(schema: type[Schema]) -> Callable:
    """Give the view the request's body, as loaded by the schema, as its first argument."""
    loader = schema()

    def decorate(view: Callable) -> Callable:
        @wraps(view)
        def wrapper(**arguments: Any) -> Any:
            return view(loader.load(read_body(loader)), **arguments)

        wrapper.takes = loader
        return wrapper

    return decorate


def takes_query(schema: type[Schema]) -> Callable:
    """Give the view what its address's query holds, as loaded by the schema, as its first argument."""
    loader = schema()

    def decorate(view: Callable) -> Callable:
        @wraps(view)
        def wrapper(**arguments: Any) -> Any:
            return view(loader.load(read_query(loader)), **arguments)

        wrapper.takes_query = loader
        return wrapper

    return decorate


def read_query(schema: Schema) -> dict[str, Any]:
    """Return the query's values by field, as JSON would have them."""
    values, errors = _read_texts(schema, request.args)
    if errors:
        raise ValidationError(errors)
    return values


def read_body(schema: Schema) -> dict[str, Any]:
    """Return the body's values by field, as JSON would have them; files that were uploaded as spooled files."""
    if (encoding := request.headers.get("Content-Encoding", IDENTITY)).lower() != IDENTITY:
        raise UnsupportedMediaType(f"The body's Content-Encoding is {shown(encoding)}; expected one without.")
    if request.mimetype == JSON:
        return _read_json()
    if request.mimetype in (FORM, MULTIPART):
        return _read_form(schema)
    if request.mimetype or request.get_data():
        raise UnsupportedMediaType
    return {}


def _check_whole() -> None:
    """Refuse a body of which a part is missing.

    Where the server says that it ends bodies itself, as gunicorn does, Werkzeug takes a broken connection for the
    end, and cuts a body of unknown length at its limit.
    """
    if request.content_length is None:
        request.stream.read(1)  # raises RequestEntityTooLarge at the limit
    elif request.stream.tell() < request.content_length:
        raise BadRequest("The connection broke before the end of the body.")


def _read_whole() -> bytes:
    content = request.get_data(cache=False)
    _check_whole()
    return content


def _read_json() -> dict[str, Any]:
    try:
        body = json.loads(_read_whole() or "{}")  # which frees the bytes once they are decoded: no name keeps them
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("; use sys.")[0]  # Python's advice for whoever runs it
        raise BadRequest(f"JSON parse error - {reason}") from None
    if not isinstance(body, dict):
        raise ValidationError(
            f"Invalid data. Expected a dictionary, but got {type(body).__name__}.", "non_field_errors"
        )
    return body


def _read_texts(schema: Schema, sent: MultiDict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of a form's or a query's texts, by field, and what is wrong with them."""
    values, errors = {}, {}
    for name, texts in sent.lists():
        field = schema.fields.get(name)
        try:
            values[name] = field.from_form(texts) if field else texts
        except ValidationError as error:
            errors[name] = error.messages
    return values, errors


def _read_form(schema: Schema) -> dict[str, Any]:
    try:
        form, uploaded = request.form, request.files
    except ValueError as error:
        request.stream.exhaust()
        _check_whole()
        raise BadRequest(f"The form cannot be read - {error}") from None
    _check_whole()
    body, errors = _read_texts(schema, form)
    for name, uploads in uploaded.lists():
        if not isinstance(schema.fields.get(name), Files):
            if name in schema.fields:
                errors[name] = ["A file came; expected a value."]
            body[name] = None  # which the schema refuses, where it is unknown
            continue
        body[name] = {upload.filename: upload.stream for upload in uploads}
        if len(body[name]) < len(uploads):
            errors[name] = ["Two files have the same name; expected each once."]
    if errors:
        raise ValidationError(errors)
    return body
