"""Where Celery's and RQ's tasks leave their results: a table of their own in datarun's database."""

from functools import cache

from sqlalchemy import (
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
)

peer_result = Table(
    "peer_result",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("full_train_predictions", LargeBinary),
    Column("test_predictions", LargeBinary),
)


@cache
def engine(url: str) -> Engine:
    """Return an engine whose SQLite connections are set as datarun's are."""
    made = create_engine(url)
    if made.dialect.name == "sqlite":

        @event.listens_for(made, "connect")
        def _set_up(connection: object, _record: object) -> None:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 30000"):
                connection.execute(f"PRAGMA {pragma}")

    return made


def empty(made: Engine) -> None:
    """Make the table, or empty it."""
    peer_result.create(made, checkfirst=True)
    with made.begin() as connection:
        connection.execute(delete(peer_result))


def record(made: Engine, number: int, full_train: bytes, test: bytes) -> None:
    with made.begin() as connection:
        connection.execute(
            insert(peer_result).values(number=number, full_train_predictions=full_train, test_predictions=test)
        )


def recorded(made: Engine) -> int:
    """Return how many results there are."""
    with made.connect() as connection:
        return connection.scalar(select(func.count()).select_from(peer_result))
