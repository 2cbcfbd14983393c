"""What requests pass before their view: pages of other sites, proxies; and what is logged of changes."""

import logging
from dataclasses import replace

import pytest
from flask.testing import FlaskClient
from posts import IRIS, NEW_FOLD, set_split

from app import create_app
from config import Config
from models import State
from servers import PASSWORD, USERNAME

URL = "/runapp/rawdata/"
REFUSAL = {"detail": "A page of another site made this request; expected a page of http://localhost/, or a program."}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:8001"},
        {"Origin": "http://localhost.elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
@pytest.mark.parametrize(
    "url", ["/runapp/rawdata/", "/runapp/testpredictions/new/", "/rq/requeue/high", "/rq/job/x/requeue"]
)
def test_a_change_by_a_page_of_another_site_is_refused(client: FlaskClient, url: str, headers: dict) -> None:
    answer = client.post(url, json=IRIS, headers=headers)
    assert (answer.status_code, answer.json) == (403, REFUSAL)
    assert client.get(URL).json == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Origin": "https://localhost"},  # a proxy before us speaks TLS
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_change_by_a_program_or_an_own_page_is_made(client: FlaskClient, headers: dict) -> None:
    assert client.post(URL, json=IRIS, headers=headers).status_code == 201


def test_a_link_from_another_site_may_be_followed(client: FlaskClient) -> None:
    assert client.get(URL, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_no_page_of_another_site_shows_ours_in_a_frame(client: FlaskClient) -> None:
    for url in ("/docs/", "/rq/", URL):
        headers = client.get(url).headers
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("url", ["/runapp/", "/runapp/nothing", "/rq/", "/rq/0/data/queues.json", "/metrics"])
def test_without_credentials_nothing_is_shown(client: FlaskClient, url: str) -> None:
    answer = client.application.test_client().get(url)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="datarun"'


# ---- logs


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "api.guard"]


def test_each_change_is_logged_with_its_user(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client.post(URL, json=IRIS)
    set_split(client.application, split_state=State.DONE, n_train=6, n_test=2)
    client.post("/runapp/submissionfold/", json=NEW_FOLD)
    client.get(URL)
    fold = NEW_FOLD["databoard_sf_id"]
    assert lines(caplog) == [
        f"POST /runapp/rawdata/ by {USERNAME} from 127.0.0.1: 201",
        f"fold {fold}: POST /runapp/submissionfold/ by {USERNAME} from 127.0.0.1: 201",
    ]


def test_refused_changes_are_logged_too(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client.application.test_client().post(f"{URL}%0Aforged line", auth=(USERNAME, "wrong password"))
    client.post(URL, json={}, headers={"Origin": "https://elsewhere.example"})
    assert lines(caplog) == [
        "POST /runapp/rawdata/%0Aforged%20line by - from 127.0.0.1: 401",
        "POST /runapp/rawdata/ by - from 127.0.0.1: 403",
    ]
    assert "wrong password from 127.0.0.1" in caplog.messages
    assert PASSWORD + ":" not in caplog.text


# ---- proxies

FORWARDED = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "datarun.example"}


def post(config: Config, caplog: pytest.LogCaptureFixture, **headers: str) -> int:
    caplog.set_level(logging.INFO)
    client = create_app(config).test_client()
    return client.post(URL, json=IRIS, auth=(USERNAME, PASSWORD), headers=FORWARDED | headers).status_code


def test_a_proxy_is_not_believed_by_default(
    client: FlaskClient, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    assert post(config, caplog, Origin="https://datarun.example") == 403
    assert lines(caplog) == ["POST /runapp/rawdata/ by - from 127.0.0.1: 403"]


def test_a_proxy_is_believed_where_a_setting_says_so(
    client: FlaskClient, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    behind = replace(config, PROXY_HOPS=1)
    assert post(behind, caplog, Origin="https://datarun.example") == 201
    assert lines(caplog) == [f"POST /runapp/rawdata/ by {USERNAME} from 203.0.113.7: 201"]


def test_of_what_came_through_a_proxy_only_its_own_word_is_believed(
    client: FlaskClient, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    behind = replace(config, PROXY_HOPS=1)
    assert post(behind, caplog, **{"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}) == 201
    assert lines(caplog) == [f"POST /runapp/rawdata/ by {USERNAME} from 203.0.113.7: 201"]
