"""`flask db upgrade` from an empty database gives the schema of models.py, and keeps what is in the tables."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from app import create_app
from config import Config
from models import Chunk, Content, db
from servers import ROOT

REBUILD_A_TABLE = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "rebuild", "0001"


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
    result = app.test_cli_runner().invoke(args=["db", *words])
    assert result.exit_code == 0, result.output


def described_schema() -> dict[str, Any]:
    """Return what the database says of each table but Alembic's own, in a form that can be compared."""
    inspector = sa.inspect(db.engine)
    return {
        table: {
            "columns": [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)],
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


def test_a_table_is_rebuilt_without_loss_of_the_rows_that_refer_to_it(upgraded: Flask, tmp_path: Path) -> None:
    migrations = shutil.copytree(ROOT / "migrations", tmp_path / "migrations")
    (migrations / "versions" / "rebuild.py").write_text(REBUILD_A_TABLE)
    with upgraded.app_context():
        db.session.add(Content(sha256="0" * 64, size=3, chunks=[Chunk(position=0, data=b"abc")]))
        db.session.commit()
        flask_db(upgraded, "upgrade", "--directory", str(migrations))
        assert db.session.scalars(sa.select(Chunk.data)).all() == [b"abc"]
