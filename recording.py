"""What an execution writes to its row. It begins with a claim; each later write needs that claim's token.

So whatever runs twice (an orphan, a job requeued by hand, a replaced row) writes nothing: see `Execution` in models.py.
All of it needs an app context; whoever waits or computes afterwards lets the connections go first.

What each fold reads and writes are statements that are made once, and executed without objects: to make one takes
SQLAlchemy three times as long as to execute it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO
from uuid import uuid4

from sqlalchemy import Connection, Row, Update, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

import files
import jobs
from models import (
    CANCELLED,
    UNKNOWN,
    Cause,
    Content,
    FoldIndices,
    FoldPredictions,
    Model,
    RawData,
    RawDataFile,
    State,
    Submission,
    SubmissionFile,
    SubmissionFold,
    db,
    not_final,
    now,
    state_of,
)

BATCH = 500  # rows of one transaction
OURS = "This is a fault of the service: the submission need not change."


@contextmanager
def session(writes: bool = True) -> Iterator[Session]:
    """A transaction of its own, committed at the end."""
    engine = db.engine.execution_options(writes=writes)
    with Session(engine, expire_on_commit=False) as opened, opened.begin():
        yield opened


@contextmanager
def connection(writes: bool = True) -> Iterator[Connection]:
    """A transaction of its own, as `session`, for statements alone."""
    with db.engine.connect().execution_options(writes=writes) as opened, opened.begin():
        yield opened


def let_connections_go() -> None:
    """Hold no connection to a database server: small plans have few. To open SQLite's again costs more than a query."""
    if db.engine.dialect.name != "sqlite":
        db.engine.dispose()


def key_of(model: Model) -> ColumnElement[int]:
    return model.id if model is RawData else model.databoard_sf_id


def name_of(model: Model, row_id: int) -> str:
    """Return what a log calls the row."""
    return f"{'split of data set' if model is RawData else 'fold'} {row_id}"


@dataclass(frozen=True)
class Claim:
    """An execution's hold on its row, from `claim()` on until somebody else claims, replaces or deletes the row."""

    model: Model
    id: int
    token: str
    attempt: int
    max_attempts: int
    notes: str  # the log of earlier attempts, each with how it ended

    @property
    def name(self) -> str:
        return name_of(self.model, self.id)

    def _held(self) -> dict[str, Any]:
        return {"held_id": self.id, "held_token": self.token}

    def _update(self, opened: Connection, moment: str | None, **values: Any) -> bool:
        """Write to the row, with the time now in the column `moment`; False where the row is not ours."""
        expressions = {name: value for name, value in values.items() if isinstance(value, ColumnElement)}
        change = update_held(self.model, moment)
        change = change.values(expressions) if expressions else change
        columns = {name: value for name, value in values.items() if name not in expressions}
        return opened.execute(change, self._held() | columns).rowcount == 1

    def holds(self) -> bool:
        """Whether the row is still ours."""
        with connection(writes=False) as opened:
            held = select(func.count()).select_from(self.model).where(*held_row(self.model))
            return opened.scalar(held, self._held()) == 1

    def heartbeat(self, **values: Any) -> bool:
        """Give a sign of life, with what is new: a state and its times, or the log. False where the row is not ours."""
        if "log_messages" in values:
            values["log_messages"] = self.notes + values["log_messages"]
        with connection() as opened:
            return self._update(opened, "heartbeat_at", **values)

    def finish_fold(self, predictions: Mapping[str, Any] | None = None, **values: Any) -> bool:
        """Write the fold's final state, and the columns of its predictions; False where the row is not ours."""
        values["log_messages"] = self.notes + values["log_messages"]
        with connection() as opened:
            if not self._update(opened, "ended_at", **values):
                return False
            if predictions is not None:
                opened.execute(EARLIER_PREDICTIONS, {"fold_id": self.id})
                opened.execute(PREDICTIONS, {"databoard_sf_id": self.id, **predictions})
            return True

    def finish_split(self, contents: Mapping[str, tuple[str, BinaryIO]], log_messages: str, **columns: Any) -> bool:
        """Write a split that succeeded, and the contents that it made; False where the row is not ours.

        Contents come with their hashes. Those that were stored before are not read; those of an earlier split are
        removed.
        """
        with session() as opened:
            before = opened.execute(
                select(*(getattr(RawData, name) for name in contents)).filter_by(id=self.id)
            ).first()
            if not self._update(opened.connection(), "heartbeat_at"):
                return False
            columns |= {name: files.store(file, opened, sha256) for name, (sha256, file) in contents.items()}
            columns |= {"split_state": State.DONE, "log_messages": self.notes + log_messages}
            self._update(opened.connection(), "ended_at", **columns)
            files.remove_unowned(opened, before or ())
            return True

    def fail(self, cause: str, log_messages: str) -> bool:
        """End the row in ERROR, and with a split the folds that wait for it. False where the row is not ours."""
        return self._end(cause, self.notes + log_messages)

    def _end(self, cause: str, log: str | ColumnElement[str]) -> bool:
        if self.model is SubmissionFold:
            with connection() as opened:
                return self._update(opened, "ended_at", state=State.ERROR, cause=cause, log_messages=log)
        with session() as opened:
            values = {"split_state": State.ERROR, "log_messages": log}
            if ours := self._update(opened.connection(), "ended_at", **values):
                fail_waiting_folds(opened, self.id, cause)
            return ours

    def cancel(self) -> bool:
        """End the row as cancelled; a fold keeps its log. False where the row is not ours."""
        if self.model is RawData:
            return self.fail(Cause.CANCELLED, CANCELLED)
        with connection() as opened:
            return self._update(opened, None, **SubmissionFold.cancelled())

    def give_back(self, why: str = "", waits: bool = False) -> bool:
        """Return the row to the queue, first in line; False where the row is not ours.

        Without `why` the attempt does not count. With it, it counts, and `why` ends the attempt's log.
        A fold that `waits` for its split is not enqueued: the split's end does that.
        """
        values = given_back(self.model)
        if why:
            values["log_messages"] = self._log_closed(why)
        else:
            values |= {"attempts": self.model.attempts - 1, "log_messages": self.notes or None}
        with session() as opened:
            if not self._update(opened.connection(), None, **values):
                return False
            job = jobs.describe(opened.get_one(self.model, self.id))
        if not waits:
            jobs.enqueue_all([job], at_front=True)
        return True

    def retry(self, why: str) -> bool:
        """Run the row again after a failure of ours, which `why` names, unless it was the last attempt."""
        if self.attempt < self.max_attempts:
            return self.give_back(why)
        return self._end(Cause.INFRASTRUCTURE, self._log_closed(why).concat(OURS))

    def _log_closed(self, why: str) -> ColumnElement[str]:
        """The row's log, this attempt's part of it included, and how the attempt has ended."""
        return func.coalesce(self.model.log_messages, "").concat(lost_note(self.attempt, why))


def claim(model: Model, row_id: int, task_id: str, max_attempts: int) -> Claim | None:
    """Claim the row for a new execution; None where it is final, replaced or gone, or belongs to another job."""
    token = str(uuid4())
    with connection() as opened:
        returned = opened.execute(update_unclaimed(model), {"row_id": row_id, "job_id": task_id, "token": token})
        row = returned.one_or_none()
    if row is None:
        return None
    attempt, notes = row
    return Claim(model, row_id, token, attempt, max_attempts, notes or "")


@cache
def update_unclaimed(model: Model) -> Any:
    """The UPDATE that claims a row; the token comes with its execution."""
    table = model.__table__
    [key] = table.primary_key
    mine = [key == bindparam("row_id"), table.c.task_id == bindparam("job_id"), not_final(model)]
    values = {"attempts": table.c.attempts + 1, "started_at": now(), "heartbeat_at": now(), **restarted(model)}
    return update(table).where(*mine).values(values).returning(table.c.attempts, table.c.log_messages)


@cache
def held_row(model: Model) -> list[ColumnElement[bool]]:
    """The row that a claim holds, and may write to."""
    table = model.__table__
    [key] = table.primary_key
    return [key == bindparam("held_id"), table.c.token == bindparam("held_token"), not_final(model)]


@cache
def update_held(model: Model, moment: str | None) -> Update:
    """The UPDATE of that row; the columns come with its execution, but for `moment`, which is the time now."""
    change = update(model.__table__).where(*held_row(model))
    return change.values({moment: now()}) if moment else change


EARLIER_PREDICTIONS = delete(FoldPredictions.__table__).where(
    FoldPredictions.__table__.c.databoard_sf_id == bindparam("fold_id")
)
PREDICTIONS = insert(FoldPredictions.__table__)

# What a fold needs of its own row, its submission's and its data set's
OF_A_FOLD = (
    select(
        SubmissionFold.databoard_s,
        Submission.raw_data,
        Submission.files_path.label("submission_path"),
        FoldIndices.train_is,
        FoldIndices.test_is,
        *(getattr(RawData, name) for name in ("files_path", "workflow_elements", "time_limit", "memory_limit")),
        *(getattr(RawData, name) for name in ("split_state", "held_out_test", "n_train", "n_test", "classes")),
        *(getattr(RawData, name) for name in ("X_train", "X_test", "y_train", "specific_needed", "specific_fault")),
    )
    .select_from(SubmissionFold)
    .join(FoldIndices)
    .join(Submission, SubmissionFold.submission)
    .join(RawData)
    .where(SubmissionFold.databoard_sf_id == bindparam("row_id"))
)
FILES_OF_A_SUBMISSION = select(SubmissionFile.name, SubmissionFile.sha256).filter_by(databoard_s_id=bindparam("row_id"))
FILES_OF_A_DATA_SET = select(RawDataFile.name, RawDataFile.sha256).filter_by(raw_data_id=bindparam("row_id"))


def read_fold(fold_id: int) -> tuple[Row, dict[str, str], dict[str, str]]:
    """Return what a fold needs, and the hashes of files by their names: its submission's, its data set's."""
    with connection(writes=False) as opened:
        row = opened.execute(OF_A_FOLD, {"row_id": fold_id}).one()
        submission = opened.execute(FILES_OF_A_SUBMISSION, {"row_id": row.databoard_s}).all()
        data_set = opened.execute(FILES_OF_A_DATA_SET, {"row_id": row.raw_data}).all()
    return row, dict(map(tuple, submission)), dict(map(tuple, data_set))


def restarted(model: Model) -> dict[str, Any]:
    """The columns of a row that begins anew."""
    return {"split_state": State.TODO} if model is RawData else {"state": State.TODO, "cause": None, **UNKNOWN}


def given_back(model: Model) -> dict[str, Any]:
    """The columns of a row that waits for another execution, with a new job's id."""
    nothing = dict.fromkeys(("token", "heartbeat_at", "started_at"))
    return {"task_id": str(uuid4()), **nothing, **restarted(model)}


def bytes_fetched(claim: Claim) -> int:
    """Return the size of all contents that a worker fetches to run the row."""
    if claim.model is RawData:
        hashes = [select(RawDataFile.sha256).filter_by(raw_data_id=claim.id)]
    else:
        submission = select(SubmissionFold.databoard_s).filter_by(databoard_sf_id=claim.id).scalar_subquery()
        data = select(Submission.raw_data).where(Submission.databoard_s_id == submission).scalar_subquery()
        features = [select(column).where(RawData.id == data) for column in (RawData.X_train, RawData.X_test)]
        hashes = [*features, select(SubmissionFile.sha256).where(SubmissionFile.databoard_s_id == submission)]
    wanted = or_(*map(Content.sha256.in_, hashes))
    with session(writes=False) as opened:
        return opened.scalar(select(func.coalesce(func.sum(Content.size), 0)).where(wanted))


def lost_note(attempt: int, why: str) -> str:
    """The line that ends an attempt's log where the fault was ours."""
    return f"\nAttempt {attempt} ended without a result: {why}.\n"


def fail_waiting_folds(opened: Session, raw_data_id: int, cause: str) -> None:
    """End the folds that wait for a split that failed."""
    why = OURS if cause == Cause.INFRASTRUCTURE else "See the log of the data set."
    cause = Cause.INFRASTRUCTURE if cause == Cause.INFRASTRUCTURE else Cause.DATA_ERROR
    opened.execute(
        update(SubmissionFold)
        .where(SubmissionFold.databoard_s.in_(select(Submission.databoard_s_id).filter_by(raw_data=raw_data_id)))
        .where(not_final(SubmissionFold))
        .values(state=State.ERROR, cause=cause, ended_at=now(), log_messages=f"The data set could not be split. {why}")
    )


def waiting_folds(*conditions: ColumnElement[bool]) -> Any:
    """Select the folds that can be run, in priority and arrival order: columns enough for a job and a claim."""
    fold = SubmissionFold
    return (
        select(
            fold.databoard_sf_id,
            fold.task_id,
            fold.priority,
            fold.databoard_s,
            RawData.name,
            RawData.time_limit,
            fold.token,
            fold.heartbeat_at,
            fold.attempts,
        )
        .join(Submission, Submission.databoard_s_id == fold.databoard_s)
        .join(RawData, RawData.id == Submission.raw_data)
        .where(not_final(fold), RawData.split_state == State.DONE, *conditions)
        .order_by(fold.priority, fold.queued_at, fold.databoard_sf_id)
    )


def enqueue_waiting_folds(raw_data_id: int) -> int:
    """Enqueue the folds that waited for their data's split; return how many.

    They get new jobs' ids: whoever posts a fold at this instant enqueues it too, and two jobs of one id would run it
    twice, the second in the place of the first.
    """
    with session(writes=False) as opened:
        waiting = opened.execute(waiting_folds(RawData.id == raw_data_id, SubmissionFold.token.is_(None))).all()
    n_enqueued = 0
    for start in range(0, len(waiting), BATCH):
        rows = waiting[start : start + BATCH]
        with session() as opened:
            task_ids = renew(opened, SubmissionFold, rows)
        renewed = [row for row in rows if row.databoard_sf_id in task_ids]
        n_enqueued += jobs.enqueue_all(fold_job(row, task_ids[row.databoard_sf_id]) for row in renewed)
    return n_enqueued


def fold_job(row: Row, task_id: str) -> tuple[str, dict[str, Any]]:
    """Describe the job of a row of `waiting_folds`."""
    return jobs.fold_job(row.databoard_sf_id, task_id, row.priority, row.databoard_s, row.name, row.time_limit)


def renew(opened: Session, model: Model, rows: Sequence[Row]) -> dict[int, str]:
    """Give rows that nobody has claimed new jobs' ids, all at once; return those of rows that have not changed."""
    if not rows:
        return {}
    key, table = key_of(model), model.__table__
    task_ids = {row[0]: (row.task_id, str(uuid4())) for row in rows}
    same = table.c.task_id.is_not_distinct_from(bindparam("seen"))
    waits = [same, model.token.is_(None), state_of(model) == State.TODO]
    change = update(table).where(key == bindparam("row_id"), *waits).values(task_id=bindparam("renewed"))
    values = [{"row_id": row_id, "seen": seen, "renewed": new} for row_id, (seen, new) in task_ids.items()]
    opened.connection().execute(change, values)
    found = opened.execute(select(key, model.task_id).where(key.in_(task_ids)))
    return {row_id: task_id for row_id, task_id in found if task_id == task_ids[row_id][1]}
