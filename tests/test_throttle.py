"""Who sends wrong passwords is slowed down; who has the right ones is not."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import throttle
from api.auth import set_password
from api.throttle import PasswordTries, Throttle, source
from servers import PASSWORD, USERNAME

URL = "/runapp/rawdata/"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ask(client: FlaskClient, password: str, address: str = "192.0.2.1", username: str = USERNAME) -> int:
    environ = {"REMOTE_ADDR": address}
    return client.get(URL, auth=(username, password), environ_base=environ).status_code


@pytest.fixture
def clock(app: Flask) -> Clock:
    """The clock of the app's tries, which stands still."""
    clock = Clock()
    app.extensions["password_tries"] = PasswordTries(clock)
    return clock


def test_the_eleventh_wrong_password_is_429(app: Flask, clock: Clock) -> None:
    client = app.test_client()
    assert [ask(client, "wrong password") for _ in range(10)] == [401] * 10
    answer = client.get(URL, auth=(USERNAME, "wrong password"), environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert answer.status_code == 429
    assert answer.json == {"detail": "Too many wrong passwords; expected the next in 6 s."}
    assert answer.headers["Retry-After"] == "6"
    clock.now = 6
    assert [ask(client, "wrong password") for _ in range(2)] == [401, 429]


def test_a_right_password_that_is_new_waits_too(app: Flask, clock: Clock) -> None:
    client = app.test_client()
    with app.app_context():
        set_password("newcomer", "its password")
    for _ in range(11):
        ask(client, "wrong password", username="newcomer")
    assert ask(client, "its password", username="newcomer") == 429
    clock.now = 6
    assert ask(client, "its password", username="newcomer") == 200


def test_a_program_that_works_goes_on_behind_the_same_address(app: Flask, clock: Clock) -> None:
    client = app.test_client()
    assert ask(client, PASSWORD) == 200
    assert [ask(client, "wrong password") for _ in range(12)][-2:] == [429, 429]
    assert ask(client, PASSWORD) == 200


def test_other_addresses_and_other_users_are_not_slowed_down(app: Flask, clock: Clock) -> None:
    client = app.test_client()
    for _ in range(11):
        ask(client, "wrong password", username="somebody")
    assert ask(client, "wrong password", username="somebody") == 429
    assert ask(client, PASSWORD) == 200
    assert ask(client, "wrong password", address="192.0.2.2", username="somebody") == 401


def test_an_address_that_tries_many_users_is_slowed_down() -> None:
    tries = PasswordTries(Clock())
    assert [tries.take("192.0.2.1", f"user {i}") for i in range(101)] == [0] * 100 + [1]


def test_right_passwords_cost_no_try() -> None:
    tries = PasswordTries(Clock())
    for _ in range(1000):
        assert tries.take("192.0.2.1", "somebody") == 0
        tries.give_back("192.0.2.1", "somebody")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MOST_KEYS", 3)
    limited = Throttle(burst=1, interval=1.0, clock=Clock())
    assert [limited.take(str(i)) for i in range(5)] == [0] * 5
    assert list(limited._paid_by) == ["2", "3", "4"]
    limited.give_back("0")  # forgotten meanwhile
    assert list(limited._paid_by) == ["2", "3", "4"]


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_ipv6_host_is_counted_by_its_network(address: str | None, counted: str) -> None:
    assert source(address) == counted
