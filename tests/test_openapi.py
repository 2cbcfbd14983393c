"""The API against its own OpenAPI document, by generated requests; and the page that shows the document."""

import re
from itertools import count
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from posts import IRIS, NEW_FOLD, set_split

from api.throttle import PasswordTries
from models import State
from servers import PASSWORD, USERNAME

EXAMPLES = 25  # of each operation
OPERATIONS = 15
# A value that only the data can judge (is there such a row, is the content a CSV) is a 400 where it is wrong.
CONFIG = {
    "auth": {"basic": {"username": USERNAME, "password": PASSWORD}},
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "400", "404"]}},
}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json


def test_the_document_describes_every_request(document: dict) -> None:
    found = {(method, path) for path, operations in document["paths"].items() for method in operations}
    assert found == {
        ("get", "/runapp/rawdata/"),
        ("post", "/runapp/rawdata/"),
        ("post", "/runapp/rawdata/split/"),
        ("post", "/runapp/raw_data/split/"),
        ("post", "/runapp/rawdata/customsplit/"),
        ("post", "/runapp/raw_data/customsplit/"),
        ("get", "/runapp/submissionfold/"),
        ("post", "/runapp/submissionfold/"),
        ("delete", "/runapp/rawdata/{raw_data_id}/"),
        ("get", "/runapp/submissionfold/{databoard_sf_id}/"),
        ("delete", "/runapp/submissionfold/{databoard_sf_id}/"),
        ("post", "/runapp/submissionfold/{databoard_sf_id}/cancel/"),
        ("get", "/runapp/submissionfold-light/"),
        ("post", "/runapp/testpredictions/list/"),
        ("post", "/runapp/testpredictions/new/"),
    }


def test_every_request_of_the_document_has_its_media_types(document: dict) -> None:
    bodies = {
        path: list(operations["post"]["requestBody"]["content"])
        for path, operations in document["paths"].items()
        if "requestBody" in operations.get("post", {})
    }
    form, multipart = "application/x-www-form-urlencoded", "multipart/form-data"
    assert bodies["/runapp/rawdata/"] == ["application/json", multipart]
    assert bodies["/runapp/submissionfold/"] == ["application/json", form, multipart]
    assert bodies["/runapp/testpredictions/new/"] == ["application/json", form]


def test_the_page_loads_nothing_from_elsewhere(app: Flask) -> None:
    browser = app.test_client()  # without credentials
    page = browser.get("/docs/")
    assert page.status_code == 200
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert browser.get(address).status_code == 200, address
    assert "http" not in re.sub(r'"oauth2RedirectUrl": "[^"]*"', "", page.text)


def test_generated_requests_are_answered_as_the_document_says(app: Flask, client: FlaskClient) -> None:
    import schemathesis  # here, as in `check`: it takes seconds, in each process that collects tests

    app.extensions["password_tries"] = PasswordTries(clock=count(step=1000).__next__)  # so that none comes too soon
    client.post("/runapp/rawdata/", json=IRIS)
    set_split(app, split_state=State.DONE, n_train=6, n_test=2)
    client.post("/runapp/submissionfold/", json=NEW_FOLD)
    config = schemathesis.Config.from_dict(CONFIG)
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == OPERATIONS
    for operation in operations:
        check(operation)


def check(operation: Any) -> None:
    """Send EXAMPLES requests, right ones and wrong ones, and check each answer."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=HealthCheck)
    @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes]))
    def send(case: Any) -> None:
        case.call_and_validate()

    send()
