"""Finds rows that are not final and have no live job, and enqueues them again: the queue is a cache of the database.

A row is alive while its job is in a queue, or while it changes from one look to the next: an execution writes a new
`heartbeat_at` every HEARTBEAT_INTERVAL. Only the length of time without a change counts, by this process's own clock:
no clock of another machine matters, and after an outage the looks, and with them all ages, start anew.
"""

import logging
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from redis import Redis
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

import files
import jobs
from config import Config
from models import Cause, Model, RawData, State, SubmissionFold, not_final, now
from recording import (
    BATCH,
    OURS,
    fail_waiting_folds,
    fold_job,
    given_back,
    key_of,
    let_connections_go,
    lost_note,
    name_of,
    renew,
    session,
    waiting_folds,
)  # fmt: skip

log = logging.getLogger(__name__)

SWEEP_INTERVAL = 3600  # seconds between two searches for contents that nobody owns
LEASE = "datarun:reconciler"  # one process on all hosts reconciles; two at once would do no harm
GONE = "its worker is gone"
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"

Row = tuple[Model, Any]


class Reconciler:
    """Looks at what is not final, again and again. Needs an app context."""

    def __init__(self, config: Config, redis: Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._interval = config.RECONCILE_INTERVAL
        self._max_attempts = config.MAX_ATTEMPTS
        # between a commit and its job, or a job taken from its queue and the claim, there are milliseconds
        self._unclaimed_for = config.RECONCILE_INTERVAL
        # a heartbeat may have been written an interval before it was first seen
        self._claimed_for = max(config.DEAD_AFTER - config.RECONCILE_INTERVAL, 2 * config.HEARTBEAT_INTERVAL)
        self._me = str(uuid4())
        self._seen: dict[tuple[Any, ...], float] = {}  # a row as it was seen, and since when
        self._longest = 3 * config.RECONCILE_INTERVAL  # that counts between two looks: then, we were stopped
        self._began = self._ended = self._sweep_at = clock()  # the last look
        self._time = 0.0  # that counts, in seconds
        self._unowned: set[str] = set()  # contents, at the last sweep

    def run(self) -> int:
        """Look once; return how many rows were enqueued or ended. On an error, all ages start anew."""
        try:
            leads = self._lead()
            if leads:
                self._sweep()
            return self._look(leads)
        except BaseException:
            self._seen.clear()
            raise
        finally:
            self._ended = self._clock()
            let_connections_go()

    def release(self) -> None:
        """Let another process lead."""
        self._redis.eval(RELEASE, 1, LEASE, self._me)

    def _lead(self) -> bool:
        milliseconds = int(3000 * self._interval)
        if self._redis.set(LEASE, self._me, nx=True, px=milliseconds):
            return True
        if (self._redis.get(LEASE) or b"").decode() != self._me:
            return False
        return bool(self._redis.pexpire(LEASE, milliseconds))

    def _sweep(self) -> None:
        """Remove the contents that no row names now, nor named SWEEP_INTERVAL ago: their worker died before it could.

        A content that is to be named is stored again if it is gone by then, so that the interval only saves work.
        """
        at = self._clock()
        if at < self._sweep_at:
            return
        with session(writes=False) as opened:
            unowned = files.unowned(opened)
        if abandoned := unowned & self._unowned:
            with session() as opened:
                files.remove_unowned(opened, abandoned)
            log.warning("%d contents removed that nobody owned", len(abandoned))
        self._unowned, self._sweep_at = unowned - abandoned, at + SWEEP_INTERVAL

    def _look(self, leads: bool) -> int:
        """Look; repair what is lost if we lead. Who follows knows the ages of executions when it comes to lead."""
        began = self._clock()
        if began - self._ended > self._longest:  # we were stopped, or the machine slept
            self._seen.clear()
        self._time += min(began - self._began, self._longest)  # of a slow look, too, nobody knows whether it slept
        self._began, at = began, self._time
        with session(writes=False) as opened:
            rows: list[Row] = [(RawData, row) for row in opened.execute(_waiting_splits())]
            which = () if leads else (SubmissionFold.token.is_not(None),)
            rows += [(SubmissionFold, row) for row in opened.execute(waiting_folds(*which))]
        queued = jobs.queued_ids(self._redis)  # after the rows: a row enqueued in between is not missed
        seen: dict[tuple[Any, ...], float] = {}
        lost = []
        for model, row in rows:
            if row.token is None and row.task_id in queued:
                continue
            key = (model, row[0], row.task_id, row.token, row.heartbeat_at)
            seen[key] = self._seen.get(key, at)
            if at - seen[key] >= (self._unclaimed_for if row.token is None else self._claimed_for):
                lost.append((model, row))
        self._seen = seen
        if not leads:
            return 0
        return sum(self._repair(lost[start : start + BATCH]) for start in range(0, len(lost), BATCH))

    def _repair(self, rows: list[Row]) -> int:
        """Enqueue lost rows under a new job's id, or end them after the last attempt; return how many it was."""
        described = []
        ended = 0
        with session() as opened:
            task_ids = {
                model: renew(opened, model, [row for its_model, row in rows if its_model is model and not row.token])
                for model in (RawData, SubmissionFold)
            }
            for model, row in rows:
                if row.token is None:
                    task_id = task_ids[model].get(row[0])
                elif row.attempts < self._max_attempts:
                    task_id = _take_back(opened, model, row)
                else:
                    task_id = None
                    ended += _give_up(opened, model, row)
                if task_id is not None:
                    described.append(_job(model, row, task_id))
                    log.warning("%s: has no live job, enqueued again", name_of(model, row[0]))
        return ended + jobs.enqueue_all(described)


def _take_back(opened: Session, model: Model, row: Any) -> str | None:
    """Return the id of a new job for a row whose execution is dead; None where the row has changed."""
    values = given_back(model)
    return values["task_id"] if _change(opened, model, row, lost_note(row.attempts, GONE), values) else None


def _give_up(opened: Session, model: Model, row: Any) -> bool:
    """End a row whose last execution is dead; return whether it has not changed."""
    note = lost_note(row.attempts, GONE) + OURS
    if not _change(opened, model, row, note, {"ended_at": now(), "token": None, **_error(model)}):
        return False
    log.error("%s: given up after %d attempts", name_of(model, row[0]), row.attempts)
    if model is RawData:
        fail_waiting_folds(opened, row[0], Cause.INFRASTRUCTURE)
    return True


def _change(opened: Session, model: Model, row: Any, note: str, values: dict[str, Any]) -> bool:
    log_messages = func.coalesce(model.log_messages, "") + note
    change = update(model).where(*_unchanged(model, row)).values(log_messages=log_messages, **values)
    return opened.execute(change).rowcount == 1


def _unchanged(model: Model, row: Any) -> list[ColumnElement[bool]]:
    """The row is as it was when we looked: two reconcilers, or one and a worker that has just come back, agree."""
    columns = ("task_id", "token", "heartbeat_at")
    same = [getattr(model, name).is_not_distinct_from(getattr(row, name)) for name in columns]
    return [key_of(model) == row[0], not_final(model), *same]


def _waiting_splits() -> Any:
    data = RawData
    columns = (data.id, data.task_id, data.name, data.time_limit, data.token, data.heartbeat_at, data.attempts)
    return select(*columns).where(not_final(data)).order_by(data.queued_at, data.id)


def _job(model: Model, row: Any, task_id: str) -> tuple[str, dict[str, Any]]:
    if model is RawData:
        return jobs.split_job(row.id, task_id, row.name, row.time_limit)
    return fold_job(row, task_id)


def _error(model: Model) -> dict[str, Any]:
    return {"split_state": State.ERROR} if model is RawData else {"state": State.ERROR, "cause": Cause.INFRASTRUCTURE}
