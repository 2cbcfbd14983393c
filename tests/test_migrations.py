"""`flask db upgrade` from an empty database gives the schema of models.py, and keeps what is in the tables."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from flask import Flask

import postgresql
import revision
from app import create_app, init_migrations
from config import Config
from models import Chunk, Content, RawData, db
from servers import ROOT, free_port

REVISIONS = [script.revision for script in ScriptDirectory(revision.MIGRATIONS).walk_revisions()][::-1]
COMMANDS = {"web": ["gunicorn", "app:create_app()"], "worker": [sys.executable, "worker.py"]}
START_TIMEOUT = 60  # seconds in which a process that does not start has ended

REBUILD_A_TABLE = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "rebuild", "HEAD"


def upgrade():
    with op.batch_alter_table("content") as content:
        content.alter_column("size", type_=sa.BigInteger())
"""


@pytest.fixture
def upgraded(database_url: str, config: Config) -> Flask:
    """An app whose database was made by `flask db upgrade`."""
    app = create_app(config)
    flask_db(app, "upgrade")
    return app


def flask_db(app: Flask, *words: str) -> None:
    init_migrations(app)
    result = app.test_cli_runner().invoke(args=["db", *words])
    assert result.exit_code == 0, result.output


def described_schema() -> dict[str, Any]:
    """Return what the database says of each table but Alembic's own, in a form that can be compared."""
    inspector = sa.inspect(db.engine)
    return {
        table: {
            "columns": sorted(
                (c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)
            ),
            "primary key": inspector.get_pk_constraint(table),
            "foreign keys": sorted(inspector.get_foreign_keys(table), key=lambda key: key["name"]),
            "unique": sorted(inspector.get_unique_constraints(table), key=lambda unique: unique["name"]),
            "indexes": sorted(inspector.get_indexes(table), key=lambda index: index["name"]),
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def test_upgrade_gives_the_schema_of_the_models(upgraded: Flask) -> None:
    with upgraded.app_context():
        migrated = described_schema()
        db.drop_all()
        db.create_all()
        assert described_schema() == migrated


@pytest.mark.parametrize("earlier", REVISIONS)
def test_upgrade_from_each_revision_gives_the_schema_of_the_models(
    database_url: str, config: Config, earlier: str
) -> None:
    app = create_app(config)
    flask_db(app, "upgrade", earlier)
    flask_db(app, "upgrade")
    flask_db(app, "check")
    with app.app_context():
        assert revision.fault(db.engine) is None


def test_the_last_revision_is_the_one_that_is_needed() -> None:
    assert ScriptDirectory(revision.MIGRATIONS).get_current_head() == revision.NEEDED


def test_there_is_nothing_to_migrate(upgraded: Flask) -> None:
    flask_db(upgraded, "check")


def test_upgrade_of_an_upgraded_database_changes_nothing(upgraded: Flask) -> None:
    with upgraded.app_context():
        before = described_schema()
        flask_db(upgraded, "upgrade")
        assert described_schema() == before


def test_downgrade_leaves_nothing(upgraded: Flask) -> None:
    flask_db(upgraded, "downgrade", "base")
    with upgraded.app_context():
        assert described_schema() == {}


def test_a_data_set_whose_own_file_failed_at_an_earlier_split_keeps_a_fault_that_is_not_known(upgraded: Flask) -> None:
    flask_db(upgraded, "downgrade", "0001")
    with upgraded.app_context():
        table = sa.Table("raw_data", sa.MetaData(), autoload_with=db.engine)
        rows = [("works", False), ("fails", True)]
        common = dict.fromkeys(("files_path", "target_column", "workflow_elements"), "")
        with db.engine.begin() as connection:
            connection.execute(
                table.insert(),
                [
                    common | {"name": name, "specific_needed": True, "specific_failed": failed, "attempts": 1}
                    for name, failed in rows
                ],
            )
        flask_db(upgraded, "upgrade")
        faults = db.session.execute(sa.select(RawData.name, RawData.specific_fault).order_by(RawData.id)).all()
        assert faults == [("works", None), ("fails", "")]
        db.session.remove()
        flask_db(upgraded, "downgrade", "0001")
        with db.engine.connect() as connection:
            assert (
                connection.execute(sa.select(table.c.name, table.c.specific_failed).order_by(table.c.id)).all() == rows
            )


def test_a_table_is_rebuilt_without_loss_of_the_rows_that_refer_to_it(upgraded: Flask, tmp_path: Path) -> None:
    migrations = shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    (migrations / "versions" / "rebuild.py").write_text(REBUILD_A_TABLE.replace("HEAD", REVISIONS[-1]))
    with upgraded.app_context():
        db.session.add(Content(sha256="0" * 64, size=3, chunks=[Chunk(position=0, data=b"abc")]))
        db.session.commit()
        flask_db(upgraded, "upgrade", "--directory", str(migrations))
        assert db.session.scalars(sa.select(Chunk.data)).all() == [b"abc"]


def test_to_rebuild_a_table_may_take_long(
    config: Config, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql.Connection, "answer_timeout", 0.5)
    app = create_app(replace(config, DATABASE_URL=postgres_url))
    flask_db(app, "upgrade")
    migrations = shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    slow = REBUILD_A_TABLE.replace("HEAD", REVISIONS[-1]) + '    op.execute("SELECT pg_sleep(1)")\n'
    (migrations / "versions" / "rebuild.py").write_text(slow)
    flask_db(app, "upgrade", "--directory", str(migrations))
    with app.app_context():
        db.engine.dispose()


def ended(config: Config, command: list[str]) -> tuple[int, str]:
    """Run a process of the service that does not start; return its exit status and what it said."""
    environment = {field.name: str(getattr(config, field.name)) for field in fields(Config)}
    environment |= {"PATH": str(Path(sys.executable).parent), "PORT": str(free_port()), "WEB_HOST": "127.0.0.1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=START_TIMEOUT
    )
    return done.returncode, done.stdout.decode()


@pytest.fixture
def without_rights(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database, for a role that may connect to it, and nothing else."""
    role = f"guest_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN")
        yield postgres_url.replace("datarun@", f"{role}@")
        owner.execute(f"DROP ROLE {role}")


UPGRADE = ["flask", "db", "upgrade"]
OF_THE_DATABASE = [UPGRADE, ["flask", "first-run"], ["flask", "list-users"], ["flask", "delete-user", "ann"]]


@pytest.mark.parametrize("command", OF_THE_DATABASE, ids=" ".join)
def test_a_command_on_a_database_that_is_not_there_ends_with_a_sentence(config: Config, command: list[str]) -> None:
    port = free_port()
    status, said = ended(replace(config, DATABASE_URL=f"postgres://127.0.0.1:{port}/x"), command)
    why = f'connection failed: connection to server at "127.0.0.1", port {port} failed: Connection refused'
    assert (status, said) == (1, f"Error: the database cannot be used: {why}\n")


@pytest.mark.parametrize("command", OF_THE_DATABASE[:2], ids=" ".join)
def test_a_role_without_rights_is_told_which_it_lacks(config: Config, without_rights: str, command: list[str]) -> None:
    status, said = ended(replace(config, DATABASE_URL=without_rights), command)
    assert (status, said) == (1, "Error: the database cannot be used: permission denied for schema public\n")


def test_a_role_that_may_not_read_is_told_so(config: Config, postgres_url: str, without_rights: str) -> None:
    on_postgres = replace(config, DATABASE_URL=postgres_url)
    assert ended(on_postgres, UPGRADE)[0] == 0
    fault = "the database cannot be used: permission denied for table alembic_version"
    for command in OF_THE_DATABASE[2:]:
        assert ended(replace(on_postgres, DATABASE_URL=without_rights), command) == (1, f"Error: {fault}\n")
    for command in COMMANDS.values():
        status, said = ended(replace(on_postgres, DATABASE_URL=without_rights), command)
        assert status != 0
        assert f"not started: {fault}" in said
        assert "Traceback" not in said


def set_revision(app: Flask, found: str) -> None:
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :found"), {"found": found})


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_process_that_finds_a_newer_schema_says_so_and_does_not_start(
    upgraded: Flask, config: Config, command: list[str]
) -> None:
    set_revision(upgraded, "9999")
    status, said = ended(config, command)
    assert status != 0
    assert f"not started: the database is newer: revision 9999, this code knows {REVISIONS[-1]} as the last" in said


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_process_that_finds_tables_of_no_revision_says_so_and_does_not_start(
    upgraded: Flask, config: Config, command: list[str]
) -> None:
    with upgraded.app_context(), db.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM alembic_version"))
    status, said = ended(config, command)
    assert status != 0
    assert f"not started: the database has tables of no revision, this code needs {REVISIONS[-1]}" in said


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_process_whose_database_is_none_says_so_and_does_not_start(config: Config, command: list[str]) -> None:
    config.DATARUN_HOME.mkdir()
    (config.DATARUN_HOME / "datarun.sqlite").write_bytes(b"not a database\n" * 1000)
    status, said = ended(config, command)
    assert status != 0
    assert "not started: the database cannot be used: file is not a database" in said
    assert "Traceback" not in said


def test_an_older_schema_is_told_from_a_newer_one(upgraded: Flask, tmp_path: Path) -> None:
    migrations = shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    (migrations / "versions" / "rebuild.py").write_text(REBUILD_A_TABLE.replace("HEAD", REVISIONS[-1]))
    with upgraded.app_context():
        fault = revision.fault(db.engine, "rebuild", migrations)
        assert fault == (
            f"the database is older: revision {REVISIONS[-1]}, this code needs rebuild: run `flask db upgrade`"
        )
        flask_db(upgraded, "upgrade", "--directory", str(migrations))
        assert revision.fault(db.engine, "rebuild", migrations) is None


def test_a_web_process_does_not_start_on_an_empty_database(database_url: str, config: Config) -> None:
    status, said = ended(config, COMMANDS["web"])
    assert status != 0
    assert "not started: the database is empty, this code needs revision" in said
