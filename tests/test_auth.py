"""Who may use the API, and the commands that manage users."""

import base64
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.security import check_password_hash, generate_password_hash

from api.auth import NOBODYS_HASH, PasswordCheck, set_password, stored_hash
from app import create_app, init_migrations
from config import Config
from models import User, db
from revision import NEEDED
from servers import PASSWORD, USERNAME

URL = "/runapp/rawdata/"


def status(client: FlaskClient, username: str, password: str) -> int:
    return client.get(URL, auth=(username, password)).status_code


@pytest.fixture
def scrypts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that scrypt was paid for, as the test goes on."""
    paid: list[str] = []
    module = sys.modules[PasswordCheck.__module__]
    monkeypatch.setattr(module, "check_password_hash", lambda h, p: paid.append(h) or check_password_hash(h, p))
    return paid


def test_no_credentials_are_refused(app: Flask) -> None:
    answer = app.test_client().get(URL)
    assert answer.status_code == 401
    assert answer.json == {"detail": "Authentication credentials were not provided."}
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="datarun"'


@pytest.mark.parametrize(
    ("username", "password"),
    [
        (USERNAME, "wrong password"),
        (USERNAME, ""),
        ("", PASSWORD),
        ("nobody", PASSWORD),
        (USERNAME.upper(), PASSWORD),
        (f"{USERNAME}\0", PASSWORD),
        (USERNAME, f"{PASSWORD}\0"),
        ("x" * 3000, PASSWORD),
        ("é", "ü"),
    ],
)
def test_wrong_credentials_are_refused(database_url: str, app: Flask, username: str, password: str) -> None:
    answer = app.test_client().get(URL, auth=(username, password))
    assert answer.status_code == 401
    assert answer.json == {"detail": "Invalid username/password."}
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="datarun"'


def basic(credentials: bytes) -> str:
    return f"Basic {base64.b64encode(credentials).decode()}"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic /zp4",
        "Basic \xff",
        basic(b"no colon"),
        basic(b"a\xff:secret"),
        basic(b"a\0:secret\0"),
        "Basic " + "QQ==" * 100_000,
        "Bearer datarun:datarun",
        "Digest",
        'Digest username="\xff", realm="datarun", nonce="x", uri="/", response="x"',
        "datarun",
        "\xff",
    ],
    ids=lambda header: header[:20],
)
def test_malformed_credentials_are_refused(app: Flask, header: str) -> None:
    answer = app.test_client().get(URL, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json == {"detail": "Invalid username/password."}


def test_right_credentials_are_accepted(database_url: str, client: FlaskClient) -> None:
    assert client.get(URL).status_code == 200


def test_names_and_passwords_of_any_script_are_accepted(database_url: str, app: Flask) -> None:
    with app.app_context():
        set_password("Zoë Müller", "päss:wörd 密码")
    assert status(app.test_client(), "Zoë Müller", "päss:wörd 密码") == 200


def test_a_poller_pays_scrypt_once(app: Flask, scrypts: list[str]) -> None:
    client = app.test_client()
    with app.app_context():
        set_password("poller", "its password")
    assert [status(client, "poller", "its password") for _ in range(5)] == [200] * 5
    with app.app_context():
        assert scrypts.count(stored_hash("poller")) == 1


def test_an_unknown_user_costs_what_a_known_one_costs(app: Flask, scrypts: list[str]) -> None:
    client = app.test_client()
    client.get(URL, auth=(USERNAME, PASSWORD))
    scrypts.clear()
    assert [status(client, name, "wrong password") for name in ("nobody", USERNAME)] == [401, 401]
    with app.app_context():
        assert scrypts == [NOBODYS_HASH, stored_hash(USERNAME)]
    assert NOBODYS_HASH.split("$")[0] == generate_password_hash("any").split("$")[0]


def test_a_changed_password_holds_from_the_next_request_on(app: Flask) -> None:
    client = app.test_client()
    with app.app_context():
        set_password("somebody", "the first")
        assert status(client, "somebody", "the first") == 200
        set_password("somebody", "the second")
    assert status(client, "somebody", "the first") == 401
    assert status(client, "somebody", "the second") == 200


def test_a_deleted_user_is_refused_from_the_next_request_on(app: Flask) -> None:
    client, commands = app.test_client(), app.test_cli_runner()
    with app.app_context():
        set_password("somebody", "a password")
    assert status(client, "somebody", "a password") == 200
    assert commands.invoke(args=["delete-user", "somebody"]).output == "User somebody deleted.\n"
    assert status(client, "somebody", "a password") == 401


def test_what_is_remembered_is_bounded_and_holds_no_password() -> None:
    check, password_hash = PasswordCheck(remembered=2), generate_password_hash("secret", "scrypt:1024:8:1")
    assert all(check(name, "secret", password_hash) for name in ("a", "b", "c"))
    assert len(check._passed) == 2
    assert "secret" not in repr(vars(check))


def test_threads_share_what_is_remembered() -> None:
    check, password_hash = PasswordCheck(remembered=3), generate_password_hash("secret", "scrypt:1024:8:1")
    results: list[bool] = []

    def ask(thread: int) -> None:
        for i in range(40):
            results.append(check(f"user {(thread + i) % 7}", "secret", password_hash))
            results.append(not check(f"user {(thread + i) % 7}", "wrong", password_hash))

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 * 40 * 2
    assert all(results)
    assert len(check._passed) <= 3


def test_the_configured_user_exists_from_the_start_on(app: Flask, config: Config) -> None:
    create_app(replace(config, DATARUN_USERNAME="operator", DATARUN_PASSWORD="of this site"))
    assert status(app.test_client(), "operator", "of this site") == 200


def test_the_configured_user_gets_the_configured_password(app: Flask, config: Config) -> None:
    assert status(app.test_client(), USERNAME, PASSWORD) == 200
    create_app(replace(config, DATARUN_PASSWORD="another password"))
    assert status(app.test_client(), USERNAME, PASSWORD) == 401
    assert status(app.test_client(), USERNAME, "another password") == 200


def test_a_start_with_the_same_password_changes_nothing(app: Flask, config: Config) -> None:
    assert status(app.test_client(), USERNAME, PASSWORD) == 200
    with app.app_context():
        before = stored_hash(USERNAME)
        create_app(config)
        assert stored_hash(USERNAME) == before


def test_concurrent_starts_make_one_user(database_url: str, app: Flask) -> None:
    barrier, faults = threading.Barrier(4), []

    def start() -> None:
        barrier.wait()
        try:
            with app.app_context():
                set_password("new", "same password")
        except Exception as fault:  # shown by the assertion below
            faults.append(fault)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    with app.app_context():
        assert db.session.scalars(select(User.username).where(User.username == "new")).all() == ["new"]
    assert status(app.test_client(), "new", "same password") == 200


def test_a_start_without_database_makes_the_user_later(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "missing" / "db"
    app = create_app(replace(config, DATABASE_URL=f"sqlite:///{file}"))
    file.parent.mkdir()
    with app.app_context():
        db.create_all()
    assert status(app.test_client(), USERNAME, PASSWORD) == 200


@pytest.mark.parametrize(
    ("username", "password", "message"),
    [
        ("", "long enough", "DATARUN_USERNAME: A user name has 1 to 80 printable characters and no colon."),
        ("a:b", "", "DATARUN_USERNAME: A user name has 1 to 80 printable characters and no colon."),  # for first-run
        ("a\x07", "", "DATARUN_USERNAME: A user name has 1 to 80 printable characters and no colon."),
        ("a:b", "long enough", "DATARUN_USERNAME: A user name has 1 to 80 printable characters and no colon."),
        ("a", "short", "DATARUN_PASSWORD: A password has 6 to 200 printable characters."),
    ],
)
def test_a_configured_user_against_the_rules_stops_the_start(
    config: Config, username: str, password: str, message: str
) -> None:
    with pytest.raises(SystemExit, match=f"^not started: {message}$"):
        create_app(replace(config, DATARUN_USERNAME=username, DATARUN_PASSWORD=password))


def test_create_user_asks_for_the_password(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["create-user", "alice"], input="in wonderland\nin wonderland\n")
    assert result.output.splitlines()[-1] == "User alice created."
    assert "wonderland" not in result.output
    assert status(app.test_client(), "alice", "in wonderland") == 200


def test_create_user_reads_the_password_from_standard_input(app: Flask) -> None:
    commands = app.test_cli_runner()
    create = ["create-user", "alice", "--password-stdin"]
    assert commands.invoke(args=create, input="in wonderland\n").output == "User alice created.\n"
    assert commands.invoke(args=create, input="behind the glass").output == "User alice has a new password.\n"
    assert status(app.test_client(), "alice", "behind the glass") == 200


@pytest.mark.parametrize(
    ("username", "password", "message"),
    [
        ("a:b", "long enough", "A user name has 1 to 80 printable characters and no colon."),
        ("", "long enough", "A user name has 1 to 80 printable characters and no colon."),
        ("x" * 81, "long enough", "A user name has 1 to 80 printable characters and no colon."),
        ("alice", "short", "A password has 6 to 200 printable characters."),
        ("alice", "x" * 201, "A password has 6 to 200 printable characters."),
        ("alice", "with\ttab", "A password has 6 to 200 printable characters."),
    ],
)
def test_create_user_refuses_what_is_against_the_rules(app: Flask, username: str, password: str, message: str) -> None:
    result = app.test_cli_runner().invoke(args=["create-user", username, "--password-stdin"], input=password)
    assert result.exit_code != 0
    assert result.output.splitlines()[-1].endswith(message)
    assert app.test_cli_runner().invoke(args=["list-users"]).output == f"{USERNAME}\n"


def test_list_users_prints_names(app: Flask) -> None:
    with app.app_context():
        set_password("alice", "in wonderland")
    assert app.test_cli_runner().invoke(args=["list-users"]).output == f"alice\n{USERNAME}\n"


def test_delete_user_says_when_there_is_none(app: Flask) -> None:
    result = app.test_cli_runner().invoke(args=["delete-user", "nobody"])
    assert (result.exit_code, result.output) == (1, "Error: There is no user nobody.\n")


def test_first_run_makes_the_configured_user(config: Config) -> None:
    app = create_app(config)
    init_migrations(app)
    lines = app.test_cli_runner().invoke(args=["first-run"]).output
    assert f"Users: {USERNAME}." in lines
    assert "Password:" not in lines
    assert status(app.test_client(), USERNAME, PASSWORD) == 200


@pytest.mark.parametrize("command", [["list-users"], ["create-user", "ann"], ["delete-user", "ann"]])
def test_commands_say_that_there_are_no_tables(config: Config, command: list[str]) -> None:
    result = create_app(config).test_cli_runner().invoke(args=command)
    sentence = f"Error: the database is empty, this code needs revision {NEEDED}: run `flask db upgrade`\n"
    assert (result.exit_code, result.output) == (1, sentence)


def test_first_run_makes_tables_and_a_user_once(config: Config) -> None:
    app = create_app(replace(config, DATARUN_USERNAME="", DATARUN_PASSWORD=""))
    init_migrations(app)
    commands = app.test_cli_runner()
    lines = commands.invoke(args=["first-run"]).output.splitlines()
    password = next(line for line in lines if line.startswith("Password: ")).split()[1]
    assert sum(line.startswith(f"curl -u datarun:{password} http://127.0.0.1:8000/runapp/") for line in lines) == 3
    assert status(app.test_client(), "datarun", password) == 200
    again = commands.invoke(args=["first-run"]).output
    assert "Users: datarun." in again
    assert "curl" not in again
    assert password not in again
    assert status(app.test_client(), "datarun", password) == 200
