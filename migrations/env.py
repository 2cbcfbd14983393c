"""How Alembic reaches the database: by the app's own engine, within `flask db ...`."""

from typing import Any

import click
from alembic import context
from flask import current_app
from sqlalchemy import Connection

from api.users import told
from models import UTCDateTime

migrate = current_app.extensions["migrate"]


def render_item(kind: str, item: Any, autogen_context: Any) -> str | bool:
    """Write our own types as what they are in the database: a revision stays right when `models` changes."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UTCDateTime) else False


def check_foreign_keys(connection: Connection, on: bool) -> None:
    """A batch operation on SQLite drops the old table, which would delete the rows that refer to it."""
    if connection.dialect.name == "sqlite":  # by the driver: within a transaction, this statement does nothing
        connection.connection.driver_connection.execute(f"PRAGMA foreign_keys={'ON' if on else 'OFF'}")


def report(step: Any, **_: Any) -> None:
    click.echo(f"database: {'up to' if step.is_upgrade else 'down from'} revision {step.up_revision_id}", err=True)


def run_migrations() -> None:
    with migrate.db.engine.connect() as connection:
        check_foreign_keys(connection, False)
        if connection.dialect.name == "postgresql":
            connection.connection.driver_connection.answer_timeout = None  # to rebuild a table may take long
        context.configure(
            connection=connection,
            target_metadata=migrate.db.metadata,
            render_item=render_item,
            on_version_apply=report,
            **migrate.configure_args,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
        check_foreign_keys(connection, True)


with told():
    run_migrations()
