"""The schema's revision: the one that this code needs, beside the one that the database has."""

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
OURS = "submission_fold"  # a table that each revision has


def fault(engine: Engine, migrations: Path = MIGRATIONS) -> str | None:
    """Return why this code cannot work with that schema, and what to do; None where it can.

    Raises what SQLAlchemy raises where the database does not answer.
    """
    scripts = ScriptDirectory(migrations)
    needed = scripts.get_current_head()
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found == needed:
            return None
        if found is None and inspect(connection).has_table(OURS):
            return f"the database has tables of no revision, this code needs {needed}; expected an empty database"
    if found is None:
        return f"the database is empty, this code needs revision {needed}: run `flask db upgrade`"
    if found in {script.revision for script in scripts.walk_revisions()}:
        return f"the database is older: revision {found}, this code needs {needed}: run `flask db upgrade`"
    return f"the database is newer: revision {found}, this code knows {needed} as the last: run the code that it is of"
