"""The OpenAPI document, made from the routes and the schemas that read and write the JSON, and the page that shows it.

GET /openapi.json   the document
GET /docs/          the page, with Swagger UI's own files: it needs no internet
"""

import re
from collections.abc import Callable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint, Flask, Response, current_app, jsonify
from flask.typing import ResponseReturnValue
from flask_swagger_ui import get_swaggerui_blueprint
from marshmallow import Schema, fields
from werkzeug.routing import Rule

from api.body import FORM, JSON, MULTIPART
from models import MAX_INTEGER
from schemas import Files, Indices

PATH = "/openapi.json"
DESCRIPTION = "Trains and tests machine-learning submissions on cross-validation folds."
ID = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
ERRORS = {
    400: ("Refused; nothing has changed", "Refusal"),
    401: ("No credentials, or wrong ones", "Detail"),
    403: ("A page of another site made the request", "Detail"),
    404: ("There is none of this id", "Detail"),
    413: ("The body is too large", "Detail"),
    415: ("The content type is none of those listed, or the body is compressed", "Detail"),
    429: ("Too many wrong passwords from this address", "Detail"),
    503: ("The database cannot be reached for now", "Detail"),
}
TAGS = {"rawdata": "Data sets", "submissionfold": "Submission folds", "testpredictions": "Predictions"}
COMPONENTS = {
    "Detail": {"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}},
    "Refusal": {
        "type": "object",
        "description": "What was wrong, by field; `detail` alone where the body is no JSON",
        "minProperties": 1,
        "additionalProperties": {"oneOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]},
    },
}

blueprint = Blueprint("openapi", __name__)


def answers(schema: type[Schema] | None, status: int = 200, many: bool = False, binary: str | None = None) -> Callable:
    """Say in the document what the view answers, None for nothing, and its other content type; the view dumps it."""

    def decorate(view: Callable) -> Callable:
        view.answers = (schema and schema(many=many), status, binary)
        return view

    return decorate


@blueprint.get(PATH)
def get_document() -> ResponseReturnValue:
    """Get the OpenAPI document."""
    return jsonify(build_document(current_app))


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)
    # null: Swagger UI asks no server in the internet to validate the document
    config = {"app_name": "datarun: the API", "validatorUrl": None, "layout": "BaseLayout"}
    page = get_swaggerui_blueprint("/docs", PATH, config=config)
    page.after_request(ask_without_credentials)
    app.register_blueprint(page)


def ask_without_credentials(page: Response) -> Response:
    """Have the page find the document also where its own address holds a user and a password: browsers refuse that."""
    if page.mimetype == "text/html" and not page.direct_passthrough:
        whole = "{...config, url: location.origin + config.url}"
        page.set_data(page.get_data(as_text=True).replace("SwaggerUIBundle(config)", f"SwaggerUIBundle({whole})"))
    return page


def build_document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI document of all views that say what they answer."""
    plugin = MarshmallowPlugin()
    spec = APISpec("datarun", "1.0", "3.1.0", plugins=[plugin], info={"description": DESCRIPTION})
    plugin.converter.add_attribute_function(lambda _, field, **__: getattr(field, "json_schema", {}))
    spec.components.security_scheme("basic", {"type": "http", "scheme": "basic"})
    for name, schema in COMPONENTS.items():
        spec.components.schema(name, schema)
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if hasattr(view, "answers"):
            path = re.sub(r"<[^>]*?(\w+)>", r"{\1}", rule.rule)
            [method] = rule.methods - {"HEAD", "OPTIONS"}
            spec.path(path, operations={method.lower(): _operation(rule, view, plugin)})
    return spec.to_dict()


def _operation(rule: Rule, view: Callable, plugin: MarshmallowPlugin) -> dict[str, Any]:
    schema, status, binary = view.answers
    body = getattr(view, "takes", None)
    query = getattr(view, "takes_query", None)
    responses = {str(status): _response("The answer", schema) if schema else {"description": "Done"}}
    if binary:
        responses[str(status)]["content"][binary] = {"schema": {"type": "string", "format": "binary"}}
    refusals = [401, 429, 503, *([404] if rule.arguments else []), *([] if "GET" in rule.methods else [403])]
    for refusal in refusals + ([400, 413, 415] if body else [400] if query else []):
        description, component = ERRORS[refusal]
        responses[str(refusal)] = _response(description, {"$ref": f"#/components/schemas/{component}"})
    operation = {
        "operationId": rule.endpoint + rule.rule.replace("/", "_"),
        "tags": [TAGS.get(rule.endpoint.split(".")[-2], "Other")],
        "summary": (view.__doc__ or "").strip(),
        "security": [{"basic": []}],
        "parameters": _parameters(rule, query, plugin),
        "responses": responses,
    }
    if body:
        required = any(field.required for field in body.fields.values())
        operation["requestBody"] = {"required": required, "content": _contents(body, plugin)}
    return operation


def _parameters(rule: Rule, query: Schema | None, plugin: MarshmallowPlugin) -> list[dict[str, Any]]:
    in_path = [{"in": "path", "name": name, "required": True, "schema": ID} for name in rule.arguments]
    in_query = query.fields.items() if query else ()
    return in_path + [{"in": "query", "name": name, "schema": _form_field(field, plugin)} for name, field in in_query]


def _response(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _contents(body: Schema, plugin: MarshmallowPlugin) -> dict[str, Any]:
    """Describe the body as JSON, as a form where it needs no files, and as a form with files where it may have some."""
    files = [field for field in body.fields.values() if isinstance(field, Files)]
    contents = {JSON: {"schema": body}}
    if not any(field.required for field in files):
        contents[FORM] = {"schema": _form(body, plugin, with_files=False)}
    if files:
        contents[MULTIPART] = {"schema": _form(body, plugin, with_files=True)}
    return contents


def _form(body: Schema, plugin: MarshmallowPlugin, with_files: bool) -> dict[str, Any]:
    taken = {name: field for name, field in body.fields.items() if with_files or not isinstance(field, Files)}
    return {
        "type": "object",
        "properties": {name: _form_field(field, plugin) for name, field in taken.items()},
        "required": [name for name, field in taken.items() if field.required],
        "additionalProperties": False,
    }


def _form_field(field: fields.Field, plugin: MarshmallowPlugin) -> dict[str, Any]:
    if isinstance(field, Files):
        return {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    if isinstance(field, Indices):
        return {"type": "string", "minLength": 1, "description": "encoded, or a JSON list of integers"}
    described = plugin.converter.field2property(field)
    if isinstance(described.get("type"), list):  # a form has no null
        described["type"] = described["type"][0]
    if "enum" in described:
        described["enum"] = [value for value in described["enum"] if value is not None]
    return described
