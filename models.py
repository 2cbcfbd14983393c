"""What datarun keeps: users, raw data, submissions, submission folds, and the contents of files.

The database is the only state: a row here outlives every process, queue and cache.
"""

import enum
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    event,
    func,
    null,
)
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.sql.functions import FunctionElement

NAME_LENGTH = 40  # characters of a data set's name
FILE_NAME_LENGTH = 200  # bytes of a file's name
MAX_INTEGER = 2**63 - 1  # what both databases hold
LOCK_TIMEOUT = 30_000  # milliseconds that a statement waits for what another session writes
SQLITE_SETTINGS = (
    f"busy_timeout={LOCK_TIMEOUT}",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=OFF",  # SQLite's own default; Debian's takes ten times as long to remove a large content
)
CANCELLED = "Cancelled on request."

# What a statement raises where the database does not answer, or, as after a failover, takes no writes
DATABASE_GONE = (OperationalError, InterfaceError, InternalError)


def unusable(error: DBAPIError) -> str:
    """Say, in the driver's words, why a statement failed that any database of ours would take."""
    return f"the database cannot be used: {str(error.orig).strip().partition(chr(10))[0]}"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


UNSYNCHRONIZED = {"synchronize_session": False}  # of an UPDATE or DELETE of which the session's objects learn nothing

# After a commit, rows keep what was committed: an answer shows it, whatever others do to the rows meanwhile.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})


@event.listens_for(Engine, "connect")
def _set_up_sqlite(dbapi_connection: Any, _record: object) -> None:
    if isinstance(dbapi_connection, sqlite3.Connection):
        dbapi_connection.isolation_level = None  # the driver begins nothing by itself: `_begin` does
        for pragma in SQLITE_SETTINGS:
            dbapi_connection.execute(f"PRAGMA {pragma}")


@event.listens_for(Engine, "begin")
def _begin(connection: Connection) -> None:
    """Begin a transaction on SQLite; one that reads and then writes takes the lock first, or it may fail half-way."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")


@contextmanager
def writing() -> Iterator[None]:
    """Make the block a transaction of `db.session` that reads and writes, committed at its end."""
    db.session.rollback()  # ends what was only read so far
    db.session.connection(execution_options={"writes": True})
    try:
        yield
        db.session.commit()
    except BaseException:
        db.session.rollback()
        raise


ClientId = BigInteger().with_variant(Integer, "sqlite")  # SQLite's integers have 64 bits, and its INTEGER key is fast


class State(enum.StrEnum):
    """Of a fold: all five. Of a split: TODO, DONE and ERROR."""

    TODO = "TODO"
    TRAINED = "TRAINED"
    VALIDATED = "VALIDATED"
    TESTED = "TESTED"
    DONE = "DONE"
    ERROR = "ERROR"


FINAL_STATES = (State.TESTED, State.DONE, State.ERROR)


class Cause(enum.StrEnum):
    """Why a fold ended in ERROR; each value is a contract with clients."""

    IMPORT_ERROR = "import_error"
    TRAIN_ERROR = "train_error"
    VALIDATION_ERROR = "validation_error"
    TEST_ERROR = "test_error"
    BAD_PREDICTIONS = "bad_predictions"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    CRASHED = "crashed"
    DATA_ERROR = "data_error"
    INFRASTRUCTURE = "infrastructure"
    CANCELLED = "cancelled"


UNKNOWN = {
    "train_time": 0.0,
    "validation_time": 0.0,
    "test_time": 0.0,
    "train_cpu_time": 0.0,
    "test_cpu_time": 0.0,
    "train_memory": 0.0,
    "test_memory": 0.0,
}  # measures of a fold, until they are known


class UTCDateTime(TypeDecorator):
    """A moment, aware and in UTC on both sides (SQLite keeps no zone, PostgreSQL answers in its own)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: object) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class now(FunctionElement):
    """The database's clock, in UTC."""

    type = UTCDateTime()
    inherit_cache = True


@compiles(now)
def _now(*_: object, **__: object) -> str:
    return "now()"


@compiles(now, "sqlite")
def _now_sqlite(*_: object, **__: object) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


class Execution:
    """What rows that a worker executes have in common (mixed into RawData and SubmissionFold).

    `task_id` is the id of the row's present job. An execution claims the row by setting a fresh `token`; each later
    write requires that token. `heartbeat_at` is the last sign of life of that execution, by the database's clock.
    """

    task_id: Mapped[str | None] = mapped_column(String(36))
    token: Mapped[str | None] = mapped_column(String(36))
    attempts: Mapped[int] = mapped_column(default=0)
    queued_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    heartbeat_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UTCDateTime)

    @classmethod
    def anew(cls) -> dict[str, Any]:
        """Return what the columns of a row are before anybody claims it. Its job needs a `task_id` beside."""
        nothing = dict.fromkeys(("token", "started_at", "heartbeat_at", "ended_at", "log_messages"))
        return {"attempts": 0, "queued_at": now(), **nothing}

    def begin_anew(self) -> None:
        """Give the row a job of its own, which nobody has claimed yet."""
        for name, value in self.anew().items():
            setattr(self, name, value)
        self.task_id = str(uuid4())


class User(db.Model):
    """Somebody who may use the API."""

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(80), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))


class Content(db.Model):
    """The bytes of a file, stored once whoever owns them; `sha256` is their hexadecimal digest."""

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)  # bytes
    chunks: Mapped[list["Chunk"]] = relationship(order_by="Chunk.position", passive_deletes=True)


class Chunk(db.Model):
    """A piece of a content: position 0, 1, ... in the file's order."""

    sha256: Mapped[str] = mapped_column(ForeignKey("content.sha256", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class RawData(Execution, db.Model):
    """A data set, its split into a training and a held-out test part, and the job that makes that split."""

    __table_args__ = {"sqlite_autoincrement": True}  # no id comes again, as on PostgreSQL

    id: Mapped[int] = mapped_column(ClientId, primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    files_path: Mapped[str] = mapped_column(String(200))  # relative to a worker's cache
    target_column: Mapped[str] = mapped_column(Text)
    workflow_elements: Mapped[str] = mapped_column(Text)
    time_limit: Mapped[float | None]  # seconds of each fold and of the split; null: TIME_LIMIT
    memory_limit: Mapped[int | None]  # MB, likewise; null: MEMORY_LIMIT

    held_out_test: Mapped[float | None]  # fraction of the rows
    random_state: Mapped[int | None] = mapped_column(BigInteger)
    split_state: Mapped[str | None] = mapped_column(String(10), index=True)  # null, TODO, DONE or ERROR
    n_train: Mapped[int | None]  # rows
    n_test: Mapped[int | None]  # rows
    # Of the training part, sorted, a list for each of several targets; null where values are predicted.
    classes: Mapped[list | None] = mapped_column(JSON)
    specific_needed: Mapped[bool] = mapped_column(default=False)  # by folds: the data set's own Python files
    # Of train_submission or test_submission, as the split's trial met it; "": one that is not known.
    specific_fault: Mapped[str | None] = mapped_column(Text)
    log_messages: Mapped[str | None] = mapped_column(Text)

    # What the split made. Row indices (int64, n_train of them, then n_test; null for custom data), labels of the
    # training part (.npy), features as the runner's interpreter pickled them, which no process of the service opens.
    split_is: Mapped[str | None] = mapped_column(ForeignKey("content.sha256"))
    y_train: Mapped[str | None] = mapped_column(ForeignKey("content.sha256"))
    X_train: Mapped[str | None] = mapped_column(ForeignKey("content.sha256"))
    X_test: Mapped[str | None] = mapped_column(ForeignKey("content.sha256"))

    files: Mapped[list["RawDataFile"]] = relationship(cascade="all, delete-orphan", order_by="RawDataFile.name")
    submissions: Mapped[list["Submission"]] = relationship(back_populates="raw_data_row", passive_deletes="all")


class RawDataFile(db.Model):
    """A posted file of a data set."""

    raw_data_id: Mapped[int] = mapped_column(ClientId, ForeignKey("raw_data.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(FILE_NAME_LENGTH), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("content.sha256"), index=True)


class Submission(db.Model):
    """A participant's files, for one data set. Its id is the client's."""

    databoard_s_id: Mapped[int] = mapped_column(ClientId, primary_key=True, autoincrement=False)
    files_path: Mapped[str] = mapped_column(String(200))  # relative to a worker's cache
    raw_data: Mapped[int] = mapped_column(ClientId, ForeignKey("raw_data.id"), index=True)

    raw_data_row: Mapped[RawData] = relationship(back_populates="submissions")
    files: Mapped[list["SubmissionFile"]] = relationship(cascade="all, delete-orphan", order_by="SubmissionFile.name")
    folds: Mapped[list["SubmissionFold"]] = relationship(back_populates="submission", passive_deletes="all")


class SubmissionFile(db.Model):
    """A posted file of a submission."""

    databoard_s_id: Mapped[int] = mapped_column(
        ClientId, ForeignKey("submission.databoard_s_id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(FILE_NAME_LENGTH), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("content.sha256"), index=True)


class SubmissionFold(Execution, db.Model):
    """A submission on one cross-validation fold: what to do, how it went. Its id is the client's.

    Times are wall or CPU seconds, memory is in kB; all are 0.0 until known.
    """

    databoard_sf_id: Mapped[int] = mapped_column(ClientId, primary_key=True, autoincrement=False)
    databoard_s: Mapped[int] = mapped_column(ClientId, ForeignKey("submission.databoard_s_id"), index=True)
    priority: Mapped[str] = mapped_column(String(1), default="L")
    state: Mapped[str] = mapped_column(String(10), default=State.TODO)
    cause: Mapped[str | None] = mapped_column(String(20))
    new: Mapped[bool] = mapped_column(default=True)
    train_time: Mapped[float] = mapped_column(default=0.0)
    validation_time: Mapped[float] = mapped_column(default=0.0)
    test_time: Mapped[float] = mapped_column(default=0.0)
    train_cpu_time: Mapped[float] = mapped_column(default=0.0)
    test_cpu_time: Mapped[float] = mapped_column(default=0.0)
    train_memory: Mapped[float] = mapped_column(default=0.0)
    test_memory: Mapped[float] = mapped_column(default=0.0)
    isolation: Mapped[str | None] = mapped_column(String(10))  # strong, partial or none
    # What it ran with, null until it has run: versions by the names of what they are of, hashes as files.folder_hash
    versions: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    submission_hash: Mapped[str | None] = mapped_column(String(64))
    raw_data_hash: Mapped[str | None] = mapped_column(String(64))
    log_messages: Mapped[str | None] = mapped_column(Text)

    submission: Mapped[Submission] = relationship(back_populates="folds")
    indices: Mapped["FoldIndices"] = relationship(cascade="all, delete-orphan", single_parent=True, uselist=False)
    predictions: Mapped["FoldPredictions | None"] = relationship(
        cascade="all, delete-orphan", single_parent=True, uselist=False
    )

    @classmethod
    def anew(cls) -> dict[str, Any]:
        """Return what the columns of a fold in TODO are, without results."""
        nothing = dict.fromkeys(("cause", "isolation", "versions", "submission_hash", "raw_data_hash"), null())
        return super().anew() | {"state": State.TODO, "new": True} | nothing | UNKNOWN

    @classmethod
    def cancelled(cls) -> dict[str, Any]:
        """Return what the columns of a cancelled fold are; its log is kept."""
        so_far = func.nullif(func.rtrim(cls.log_messages, "\n"), "", type_=Text).concat("\n")
        log = func.coalesce(so_far, "").concat(CANCELLED)
        return {"state": State.ERROR, "cause": Cause.CANCELLED, "ended_at": now(), "log_messages": log}

    __table_args__ = (
        # light lists and delivery read this index alone; reconciliation reads the rows that are not final
        Index("ix_submission_fold_light", "databoard_sf_id", "databoard_s", "state", "new"),
        Index("ix_submission_fold_state", "state", "new"),
    )


class FoldIndices(db.Model):
    """The fold's rows, as they travel: zlib-compressed little-endian int64, counted from the training part's first."""

    databoard_sf_id: Mapped[int] = mapped_column(
        ClientId, ForeignKey("submission_fold.databoard_sf_id", ondelete="CASCADE"), primary_key=True
    )
    train_is: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    test_is: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class FoldPredictions(db.Model):
    """The fold's predictions, as they travel: zlib-compressed little-endian float64, C order.

    They stand in a table of their own so that each change of a fold's state does not write them again.
    """

    databoard_sf_id: Mapped[int] = mapped_column(
        ClientId, ForeignKey("submission_fold.databoard_sf_id", ondelete="CASCADE"), primary_key=True
    )
    predictions_shape: Mapped[dict[str, list[int]]] = mapped_column(JSON)  # of each of both, by name
    full_train_predictions: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    test_predictions: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


Model = type[RawData] | type[SubmissionFold]


def state_of(model: Model) -> ColumnElement[str | None]:
    return model.split_state if model is RawData else model.state


def not_final(model: Model) -> ColumnElement[bool]:
    """Rows that an execution may still write to; null is the state of data that nobody asked to split."""
    return state_of(model).in_([state for state in State if state not in FINAL_STATES])
