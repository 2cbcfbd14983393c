"""How PostgreSQL is reached: no statement waits for ever, whatever becomes of the server, the network, other sessions.

Imported where PostgreSQL is used alone: others do without its driver.
"""

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Dialect, Engine, ExceptionContext, event

from models import LOCK_TIMEOUT

# libpq's parameters: without a network, a statement fails within about 15 s of the last sign of life
CONNECT_ARGS = {
    "connect_timeout": 5,  # seconds
    "tcp_user_timeout": 10_000,  # milliseconds that what was sent may go unanswered by the other kernel
    "keepalives_idle": 5,  # seconds
    "keepalives_interval": 3,  # seconds
    "keepalives_count": 3,
}
ANSWER_TIMEOUT = 120  # seconds that a statement may take: a server that stands still has a kernel that answers
IDLE_TIMEOUT = 120_000  # milliseconds that a process of ours that stands still may keep others from its rows

# By a statement, as PgBouncer refuses these as parameters of a connection. Where it hands its own connections on after
# each transaction, they hold for those that it happened to give.
SETTINGS = f"SET lock_timeout = {LOCK_TIMEOUT}; SET idle_in_transaction_session_timeout = {IDLE_TIMEOUT}"


class Connection(psycopg.Connection):
    """A connection that is closed where the server does not answer; migrations take their time."""

    answer_timeout: float | None = ANSWER_TIMEOUT

    def wait(self, *args: Any, **options: Any) -> Any:
        """Wait for the server, as all methods do. Raises OperationalError."""
        try:
            return super().wait(*args, **{"timeout": self.answer_timeout, **options})
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:  # a rollback would wait once more
                self.pgconn.finish()
            raise


@event.listens_for(Engine, "do_connect")
def _connect(dialect: Dialect, _record: object, args: tuple, parameters: dict[str, Any]) -> Connection | None:
    return Connection.connect(*args, **parameters) if dialect.name == "postgresql" else None


@event.listens_for(Engine, "connect")
def _set_up(connection: Any, _record: object) -> None:
    if isinstance(connection, Connection):
        connection.autocommit = True  # the end of a transaction would undo them
        connection.execute(SETTINGS)
        connection.autocommit = False


@event.listens_for(Engine, "handle_error")
def _leave(context: ExceptionContext) -> None:
    """Connect anew after a refused write: the server may have become a standby, and its address lead to another one."""
    if isinstance(context.original_exception, psycopg.errors.ReadOnlySqlTransaction):
        context.is_disconnect = True
