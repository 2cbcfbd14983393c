"""The schema's revision: the one that this code needs, beside the one that the database has."""

from pathlib import Path

from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DatabaseError

from models import DATABASE_GONE, unusable

NEEDED = "0002"  # the last of migrations/versions
MIGRATIONS = Path(__file__).resolve().parent / "migrations"
OURS = "submission_fold"  # a table that each revision has
EMPTY = "the database is empty"  # how that fault begins
FOUND = text("SELECT version_num FROM alembic_version")


def fault(engine: Engine, needed: str = NEEDED, migrations: Path = MIGRATIONS) -> str | None:
    """Return why this code cannot work with that schema, and what to do; None where it can.

    Raises one of DATABASE_GONE where the database does not answer.
    """
    try:
        with engine.connect() as connection:
            tables = inspect(connection)
            found = connection.scalar(FOUND) if tables.has_table("alembic_version") else None
            ours = found is None and tables.has_table(OURS)
    except DATABASE_GONE:
        raise
    except DatabaseError as error:  # a role that may not read it; a file that is none of SQLite's
        return unusable(error)
    if found == needed:
        return None
    if ours:
        return f"the database has tables of no revision, this code needs {needed}; expected an empty database"
    if found is None:
        return f"{EMPTY}, this code needs revision {needed}: run `flask db upgrade`"
    from alembic.script import ScriptDirectory  # not at each start of a process that finds what it needs: it is large

    if found in {script.revision for script in ScriptDirectory(migrations).walk_revisions()}:
        return f"the database is older: revision {found}, this code needs {needed}: run `flask db upgrade`"
    return f"the database is newer: revision {found}, this code knows {needed} as the last: run the code that it is of"
