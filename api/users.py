"""Commands for whoever operates datarun: `flask create-user`, `list-users`, `delete-user` and `first-run`."""

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask import Blueprint, current_app
from sqlalchemy import delete, select
from sqlalchemy.exc import DBAPIError

import revision
from api.auth import ensure_configured_user, password_fault, set_password, stored_hash, user_fault
from models import User, db, unusable

FIRST_USER = "datarun"
EXAMPLE = "width,species\n" + "".join(f"0.{i % 3},{('setosa', 'virginica')[i % 2]}\n" for i in range(20))

blueprint = Blueprint("users", __name__, cli_group=None)


def checked_username(context: click.Context, parameter: click.Parameter, username: str) -> str:
    if fault := user_fault(username):
        raise click.BadParameter(fault)
    return username


@contextmanager
def told() -> Iterator[None]:
    """End a command with a sentence where the database cannot be used."""
    try:
        yield
    except DBAPIError as error:
        raise click.ClickException(unusable(error)) from None


def check_tables() -> None:
    if missing := revision.fault(db.engine):
        raise click.ClickException(missing)


@blueprint.cli.command("create-user")
@click.argument("username", callback=checked_username)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking for it.")
@told()
def create_user(username: str, password_stdin: bool) -> None:
    """Create USERNAME, or give it another password."""
    check_tables()
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if fault := password_fault(password):
        raise click.ClickException(fault)
    existed = stored_hash(username) is not None
    set_password(username, password)
    click.echo(f"User {username} {'has a new password' if existed else 'created'}.")


@blueprint.cli.command("list-users")
@told()
def list_users() -> None:
    """Print the users' names, one a line."""
    check_tables()
    for username in db.session.scalars(select(User.username).order_by(User.username)):
        click.echo(username)


@blueprint.cli.command("delete-user")
@click.argument("username", callback=checked_username)
@told()
def delete_user(username: str) -> None:
    """Delete USERNAME, who is refused from the next request on. What was posted stays."""
    check_tables()
    deleted = db.session.execute(delete(User).where(User.username == username)).rowcount
    db.session.commit()
    if not deleted:
        raise click.ClickException(f"There is no user {username}.")
    click.echo(f"User {username} deleted.")


@blueprint.cli.command("first-run")
@told()
def first_run() -> None:
    """Upgrade the database; where there is no user, make one with a random password, shown once; say how to begin."""
    from flask_migrate import upgrade  # imports Alembic, which web and workers do without

    upgrade()
    ensure_configured_user()
    address = f"http://127.0.0.1:{current_app.config['PORT']}"
    known = db.session.scalars(select(User.username).order_by(User.username)).all()
    click.echo(f"\ndatarun answers at {address} (its documentation: {address}/docs/)")
    if known:
        click.echo(
            f"Users: {', '.join(known)}. Passwords are not shown again; to make another user, or a new password:"
        )
        click.echo("    .venv/bin/flask create-user NAME\n")
        return
    username = current_app.config["DATARUN_USERNAME"] or FIRST_USER
    password = secrets.token_urlsafe(12)
    set_password(username, password)
    click.echo(f"User: {username}\nPassword: {password} (shown only now)\n\nTo begin, in another terminal:\n")
    data = {"name": "flowers", "target_column": "species", "workflow_elements": "classifier"}
    data["files"] = {"flowers.csv": EXAMPLE}
    curl = f"curl -u {username}:{password} {address}/runapp/rawdata/"
    header = "-H 'Content-Type: application/json'"
    click.echo(f"{curl} {header} -d '{json.dumps(data)}'")
    click.echo(f"{curl}split/ {header} -d '{json.dumps({'raw_data_id': 1, 'held_out_test': 0.2})}'")
    click.echo(f"{curl}\n")
