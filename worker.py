"""The worker process: takes folds and splits from the queues, has the runner do them, records how they went.

    python worker.py [high] [low]       listens to these queues in this order; both by default

The main process starts the zygote and forks WORKER_CONCURRENCY workers, each with a slot of the zygote, and one
reconciler; what dies is started again. The work is done by the zygote's children: a worker has only to watch.
"""

import io
import logging
import os
import pwd
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.ma  # np.load imports it: before the workers are forked
import redis
from flask import Flask
from sqlalchemy import Row
from sqlalchemy.orm import configure_mappers

import disk
import files
import jobs
import logs
import recording
import revision
import schemas
import secrecy
from app import bare_app, database_files
from cache import Cache
from config import CORES, ROOT, Config, environment
from listening import Listener
from models import DATABASE_GONE, Cause, RawData, State, SubmissionFold, db
from processes import Processes
from pulse import Cancelled, NotOurs, Pulse, Stopping
from reconciliation import Reconciler
from recording import Claim
from runner import (
    LEVELS,
    Finished,
    FoldOutcome,
    FoldTask,
    Limits,
    Log,
    Progress,
    Slot,
    SlotLost,
    SplitOutcome,
    SplitTask,
    Zygote,
)  # fmt: skip

log = logging.getLogger("worker")

LONGEST_PAUSE = 2.0  # seconds between two attempts to reach a database that is gone
SCHEMA_WAIT = 1.0  # seconds between two looks for the tables
ZYGOTE_PAUSE = 5.0  # seconds before another zygote is tried
STOP_MARGIN = 4.0  # seconds for giving back, beyond the grace period; then SIGKILL
USERS_OF_A_WORKER = 4  # two for its slot, and for one that takes its place while it ends
MB, KB = 1_000_000, 1_000

# Causes that a disk filled by others may have. What ends at a limit, or well, does so on any disk.
OF_A_FULL_DISK = {
    Cause.IMPORT_ERROR,
    Cause.TRAIN_ERROR,
    Cause.VALIDATION_ERROR,
    Cause.TEST_ERROR,
    Cause.BAD_PREDICTIONS,
    Cause.CRASHED,
    Cause.DATA_ERROR,
    Cause.INFRASTRUCTURE,
}

Result = TypeVar("Result")


class NotSplit(Exception):
    """The fold's data is being split again: the fold waits for that."""


class BadIndices(Exception):
    """Row indices that the data does not have; a sentence for the submitter."""


class Undelivered(Exception):
    """The database was gone for as long as what is to be written is kept; its own words."""


class Worker:
    """Runs jobs on one slot, one at a time, each from its claim to its row's final state."""

    def __init__(self, queues: list[str], app: Flask, config: Config, slot: Slot, versions: dict[str, str]) -> None:
        self._app = app
        self._versions = versions
        self._ran_with: dict[str, Any] = {}  # the present fold's columns of that
        self._config = config
        self._slot = slot
        self._slot_in_use = False
        self._kept_labels: tuple[str, np.ndarray] | None = None  # with the hash of their content
        self._cache = Cache(config.DATARUN_HOME / "cache", config.CACHE_SIZE * MB)
        self._home = disk.Disk(config.DATARUN_HOME)
        functions = {jobs.TRAIN_TEST_FOLD: self.train_test_fold, jobs.SPLIT_RAW_DATA: self.split_raw_data}
        self._listener = Listener(queues, config, functions, self._home)

    def work(self) -> None:
        """Work until asked to stop, or until the slot is lost."""
        self._listener.work(logging_level="WARNING")

    def train_test_fold(self, fold_id: int, task_id: str) -> None:
        """Train and test a fold, and record how it went.

        Whatever happens is recorded in the row or logged here: nothing reaches RQ, whose pages would show it.
        """
        self._execute(SubmissionFold, fold_id, task_id, self._fold_task, self._record_fold)

    def split_raw_data(self, raw_data_id: int, task_id: str) -> None:
        """Split a data set, record how it went, and enqueue the folds that wait for it; see `train_test_fold`."""
        self._execute(RawData, raw_data_id, task_id, self._split_task, self._record_split)

    def _execute(self, model: recording.Model, row_id: int, task_id: str, prepare: Callable, record: Callable) -> None:
        with self._app.app_context():
            try:
                claim = recording.claim(model, row_id, task_id, self._config.MAX_ATTEMPTS)
                if claim is None:
                    log.info("job %s: its row is final, gone, or has another job", task_id)
                else:
                    self._attempt(claim, prepare, record)
            except DATABASE_GONE as error:  # nothing can be recorded: reconciliation finds the row
                log.warning("job %s: ended without a record: %s", task_id, error.orig)
            except Undelivered as error:
                log.warning("job %s: ended without a record: %s", task_id, error)
            except Exception:
                log.exception("job %s: ended without a record", task_id)
            finally:
                recording.let_connections_go()

    def _attempt(self, claim: Claim, prepare: Callable, record: Callable) -> None:
        """Run one attempt, and name every way in which it can end."""
        pulse = Pulse(claim, self._listener, self._config.HEARTBEAT_INTERVAL)
        try:
            if self._listener.stopping:
                raise Stopping
            task = prepare(claim, pulse)
            recording.let_connections_go()
            log.info("%s: attempt %d", claim.name, claim.attempt)
            outcome = self._supervise(task, pulse)
            if outcome.cause in OF_A_FULL_DISK:
                self._home.check()  # what the task wrote is gone: whatever fills it is not the task's
            record = record_failure if outcome.cause == Cause.INFRASTRUCTURE else record
            self._deliver(claim, partial(record, claim, outcome, pulse))
        except NotOurs:
            log.info("%s: replaced or gone, dropped", claim.name)
        except Cancelled:
            log.info("%s: %s", claim.name, Cause.CANCELLED)
            self._deliver(claim, claim.cancel)
        except Stopping:
            log.info("%s: given back", claim.name)
            self._deliver(claim, claim.give_back)
        except NotSplit:
            log.info("%s: waits for the split of its data", claim.name)
            self._deliver(claim, partial(claim.give_back, waits=True))
        except BadIndices as error:
            log.info("%s: %s", claim.name, Cause.DATA_ERROR)
            self._deliver(claim, partial(claim.fail, Cause.DATA_ERROR, str(error)))
        except SlotLost:
            log.warning("%s: the runner is gone", claim.name)
            not_ours = self._listener.stopping or self._home.is_short()
            killed = partial(claim.retry, "the process that ran it was killed or stopped")
            self._deliver(claim, claim.give_back if not_ours else killed)
        except Undelivered:
            raise
        except Exception as error:  # a failure of ours: another attempt, or the end
            if disk.is_full(error):
                log.warning("%s: given back, the disk is full", claim.name)
                self._home.rest()
                self._slot_in_use = False
                self._deliver(claim, partial(self._put_off, claim))
            elif not self._deliver(claim, claim.holds):  # removed before all that it needs was read
                log.info("%s: replaced or gone, dropped", claim.name)
            else:
                log.exception("%s: attempt %d failed", claim.name, claim.attempt)
                self._deliver(claim, partial(claim.retry, f"the worker failed ({type(error).__name__})"))
        finally:
            if self._slot_in_use:  # lost, or not known to be empty: the main process forks a worker with another
                self._slot.close()
                self._listener.request_stop()

    def _put_off(self, claim: Claim) -> None:
        """Give a row back until the disk has room; where the disk can never hold what it needs, an attempt is over."""
        needed, size = recording.bytes_fetched(claim), self._home.size()
        if needed > size:
            claim.retry(f"it needs {needed / MB:.0f} MB on a disk of {size / MB:.0f} MB")
        else:
            claim.give_back()

    def _supervise(self, task: FoldTask | SplitTask, pulse: Pulse) -> FoldOutcome | SplitOutcome:
        """Return the task's outcome. Meanwhile write what is new; where `pulse` raises, stop the task first.

        Raises SlotLost also where the runner, whose limits end each task, stands still itself.
        """
        self._slot_in_use = True
        self._slot.start(task)
        deadline = time.monotonic() + task.limits.wall_time + self._config.DEAD_AFTER
        stopped: Exception | None = None
        while True:
            if time.monotonic() > deadline:
                raise SlotLost(f"silent {self._config.DEAD_AFTER:.0f} s after the time limit")
            timeout = max(0.0, deadline - time.monotonic()) if stopped else pulse.wait()
            files_ready, _, _ = select.select([self._slot, self._listener.wakes], [], [], timeout)
            if self._listener.wakes in files_ready:
                os.read(self._listener.wakes, 4096)
            match self._slot.receive(0) if self._slot in files_ready else None:
                case Finished(outcome):
                    self._slot_in_use = False
                    if stopped:
                        raise stopped
                    return outcome
                case Progress(state, measures):
                    pulse.add(state=state, **measures.asdict())
                case Log(text):
                    pulse.add(log_messages=clean(text))
            if not stopped:
                try:
                    asked = pulse()
                except (NotOurs, Cancelled, Stopping) as why:
                    asked, stopped = True, why
                    deadline = min(deadline, time.monotonic() + self._config.DEAD_AFTER)
                    self._slot.stop(Cause.CANCELLED)
                if asked:
                    recording.let_connections_go()

    def _deliver(self, claim: Claim, write: Callable[[], Result]) -> Result:
        """Write; where the database is gone, keep what is to be written and try again, for DELIVERY_LIMIT.

        Then, or when we are to have stopped, raises Undelivered.
        """
        deadline = time.monotonic() + self._config.DELIVERY_LIMIT
        pause = 0.1
        while True:
            try:
                return write()
            except DATABASE_GONE as error:
                if time.monotonic() > min(deadline, self._listener.stop_at):
                    raise Undelivered(str(error.orig)) from None
                log.warning("%s: no database, trying again: %s", claim.name, error.orig)
            self._listener.sleep(pause)
            self._listener.job_heartbeat()
            pause = min(2 * pause, LONGEST_PAUSE)

    # ---- folds

    def _fold_task(self, claim: Claim, pulse: Pulse) -> FoldTask:
        data, contents, posted = recording.read_fold(claim.id)
        if data.split_state != State.DONE:
            raise NotSplit
        codes = {name: sha256 for name, sha256 in posted.items() if name.lower().endswith(".py")}
        train_is, test_is = schemas.unpack_indices(data.train_is), schemas.unpack_indices(data.test_is)
        self._ran_with = {
            "versions": self._versions,
            "submission_hash": files.folder_hash(contents),
            "raw_data_hash": files.folder_hash(posted),
        }
        check_range("train_is", train_is, data.n_train)
        check_range("test_is", test_is, data.n_train)
        return FoldTask(
            name=claim.name,
            workflow_elements=elements_of(data),
            submission=self._cache.folder(data.submission_path, contents, pulse),
            X_train=self._cache.content(data.X_train, pulse),
            X_test=self._cache.content(data.X_test, pulse),
            n_train=data.n_train,
            n_test=data.n_test,
            train_is=train_is,
            y=self._labels(data.y_train)[train_is],
            classes=data.classes,
            limits=limits_of(self._config, data),
            custom=data.held_out_test is None,
            specific=self._cache.folder(data.files_path, codes, pulse) if data.specific_needed else None,
            specific_fault=data.specific_fault,
        )

    def _labels(self, sha256: str) -> np.ndarray:
        """Return the labels of a training part. The last one's are kept, in memory that is closed to others."""
        if self._kept_labels is None or self._kept_labels[0] != sha256:
            content = io.BytesIO(b"".join(files.read(sha256)))
            self._kept_labels = sha256, np.load(content, allow_pickle=False)
        return self._kept_labels[1]

    def _record_fold(self, claim: Claim, outcome: FoldOutcome, _pulse: Pulse) -> None:
        predictions = None
        if outcome.state == State.TESTED:
            arrays = {name: getattr(outcome, name) for name in ("full_train_predictions", "test_predictions")}
            predictions = {name: schemas.pack_predictions(array) for name, array in arrays.items()}
            predictions["predictions_shape"] = {name: list(array.shape) for name, array in arrays.items()}
        written = claim.finish_fold(
            predictions,
            state=outcome.state,
            cause=outcome.cause,
            log_messages=clean(outcome.log_messages),
            isolation=outcome.isolation,
            **self._ran_with,
            **outcome.measures.asdict(),
        )
        log.info("%s: %s%s", claim.name, outcome.cause or outcome.state, "" if written else ", but no longer ours")

    # ---- splits

    def _split_task(self, claim: Claim, pulse: Pulse) -> SplitTask:
        with recording.session(writes=False) as opened:
            data = opened.get_one(RawData, claim.id)
            contents = {file.name: file.sha256 for file in data.files}
        return SplitTask(
            name=claim.name,
            files={name: self._cache.nameless(sha256, pulse) for name, sha256 in contents.items()},
            target_column=data.target_column,
            workflow_elements=elements_of(data),
            held_out_test=data.held_out_test,
            random_state=data.random_state,
            limits=limits_of(self._config, data),
        )

    def _record_split(self, claim: Claim, outcome: SplitOutcome, pulse: Pulse) -> None:
        if outcome.cause is not None:
            claim.fail(outcome.cause, clean(outcome.log_messages))
            log.info("%s: %s", claim.name, outcome.cause)
            return
        y_train = io.BytesIO()
        np.save(y_train, outcome.y_train, allow_pickle=False)
        made = {"y_train": y_train, "X_train": outcome.X_train, "X_test": outcome.X_test}
        if outcome.split_is is not None:
            made["split_is"] = io.BytesIO(outcome.split_is.astype("<i8").tobytes())
        contents = {name: (files.store(file, beat=pulse), file) for name, file in made.items()}
        names = ("n_train", "n_test", "classes", "specific_needed", "specific_fault")
        columns = {name: getattr(outcome, name) for name in names}
        if claim.finish_split(contents, clean(outcome.log_messages), **columns):
            n_folds = recording.enqueue_waiting_folds(claim.id)
            log.info("%s: DONE, %d + %d rows, %d folds", claim.name, outcome.n_train, outcome.n_test, n_folds)


def record_failure(claim: Claim, outcome: FoldOutcome | SplitOutcome, _pulse: Pulse) -> None:
    """Keep the log of an attempt that the runner failed in, and try again."""
    claim.heartbeat(log_messages=clean(outcome.log_messages))
    claim.retry("the runner failed")


def clean(text: str) -> str:
    """The text without what PostgreSQL cannot store: NUL characters and lone surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def elements_of(data: RawData | Row) -> list[str]:
    return [element.strip() for element in data.workflow_elements.split(",")]


def check_range(name: str, rows: np.ndarray, n_train: int) -> None:
    """Raise BadIndices where a row is not one of the training part."""
    wrong = rows[(rows < 0) | (rows >= n_train)]
    if len(wrong):
        what = schemas.counted(len(wrong), f"out of range in {name}")
        raise BadIndices(f"{what}; the first is {wrong[0]}, and the training part has {n_train} rows, counted from 0.")


def limits_of(config: Config, data: RawData | Row) -> Limits:
    """Return the limits of a task: the settings', but for those that the data set has of its own."""
    wall_time = data.time_limit or config.TIME_LIMIT
    return Limits(
        wall_time=wall_time,
        cpu_time=max(config.CPU_LIMIT, wall_time),
        memory=(data.memory_limit or config.MEMORY_LIMIT) * MB,
        processes=config.PROCESS_LIMIT,
        log=config.LOG_LIMIT * MB,
        log_kept=config.LOG_KEPT * KB,
        disk=config.DISK_LIMIT * MB,
        predictions=config.PREDICTIONS_LIMIT * MB,
    )


# ---- the processes


def main(queues: list[str]) -> int:
    """Run workers, a reconciler and a zygote until SIGTERM or SIGINT; return the exit status."""
    config = Config.of_process()
    logs.set_up(config.LOG_FORMAT)
    if unknown := set(queues) - set(jobs.QUEUES):
        print(f"no such queue: {', '.join(sorted(unknown))}; there are: {', '.join(jobs.QUEUES)}", file=sys.stderr)
        return 2
    app = bare_app(config)
    processes = Processes()
    if fault := wait_for_schema(app, processes):
        log.error("not started: %s", fault)
        return 1
    home = disk.Disk(config.DATARUN_HOME)
    while not (processes.stopping or home.may_start()):
        processes.wait(disk.LOOK_INTERVAL)
    if processes.stopping:
        return 0
    try:
        zygote = start_zygote(app, config)
    except RuntimeError as error:
        log.error("not started: %s", error)
        return 1
    configure_mappers()  # before the workers are forked
    try:
        while not processes.stopping:
            if zygote.poll() is not None:
                processes.end("worker", config.GRACE_PERIOD + STOP_MARGIN)  # slots outlive it for a while
                zygote = restart_zygote(app, config, processes) or zygote
                continue
            if processes.lacks("reconciler"):
                processes.fork("reconciler", partial(reconcile, app, config, zygote))
            for name in (f"worker {number}" for number in range(1, config.WORKER_CONCURRENCY + 1)):
                if processes.lacks(name):
                    fork_worker(name, queues or list(jobs.QUEUES), app, config, zygote, processes)
            processes.wait(0.5, zygote)
        log.info("stopping")
    finally:
        processes.end("", config.GRACE_PERIOD + STOP_MARGIN)
        zygote.stop()
    return 0


def start_zygote(app: Flask, config: Config) -> Zygote:
    """Start the zygote; raise RuntimeError where it cannot run submissions, or cannot isolate them well enough."""
    home = config.DATARUN_HOME
    cache = home / "cache"
    try:
        secrecy.close_folder(cache)
    except OSError as error:
        raise RuntimeError(f"{cache} cannot be used: {error.strerror}") from None
    check_slot_users(config)
    zygote = Zygote(
        config.RUNNER_PYTHON or sys.executable,
        home / "scratch",
        threads=max(1, CORES // config.WORKER_CONCURRENCY),
        environ=environment(),
        first_uid=config.SLOT_UID,
        secrets=[home / "queue", cache, *database_files(app), ROOT / ".env"],
    )
    zygote.start()
    log.info("isolation: %s. %s", zygote.isolation, zygote.missing)
    if LEVELS.index(zygote.isolation) < LEVELS.index(config.MIN_ISOLATION):
        zygote.stop()
        level = f"isolation is {zygote.isolation}, MIN_ISOLATION is {config.MIN_ISOLATION}"
        raise RuntimeError(f"{level}. {zygote.missing}")
    return zygote


def check_slot_users(config: Config) -> None:
    """Raise RuntimeError where root would give folds the user of an account, whose files would go with theirs."""
    if os.geteuid():
        return
    first = config.SLOT_UID
    for uid in range(first, first + USERS_OF_A_WORKER * config.WORKER_CONCURRENCY):
        with suppress(KeyError):
            account = pwd.getpwuid(uid).pw_name
            raise RuntimeError(f"SLOT_UID is {first}, and user {uid} is {account}; expected numbers of no account")


def restart_zygote(app: Flask, config: Config, processes: Processes) -> Zygote | None:
    """Start another zygote; where the machine is in trouble, try until it works, or until we are to stop: None."""
    while not processes.stopping:
        try:
            return start_zygote(app, config)
        except (RuntimeError, OSError) as error:
            log.error("no zygote: %s", error)
            processes.wait(ZYGOTE_PAUSE)
    return None


def fork_worker(name: str, queues: list[str], app: Flask, config: Config, zygote: Zygote, processes: Processes) -> None:
    """Fork a worker with a slot of the zygote; where that has just ended, another will do."""
    try:
        sock = zygote.new_slot()
    except OSError as error:
        log.error("%s: no slot: %s", name, error)
        return
    with sock:
        processes.fork(name, partial(work, queues, app, config, zygote, sock))


def work(queues: list[str], app: Flask, config: Config, zygote: Zygote, sock: socket.socket) -> None:
    """Be a worker, in a process of its own."""
    zygote.close()  # it ends when the main process does
    Worker(queues, app, config, Slot(sock), zygote.versions).work()


def reconcile(app: Flask, config: Config, zygote: Zygote) -> None:
    """Be the reconciler, in a process of its own."""
    zygote.close()
    parent, (wake, waker) = os.getppid(), os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(waker, b"."))
    with app.app_context():
        reconciler = Reconciler(config, jobs.connection(config))
        while os.getppid() == parent:
            try:
                reconciler.run()
            except (redis.RedisError, OSError, *DATABASE_GONE) as error:
                log.warning("reconciler: %s", error)
            if select.select([wake], [], [], config.RECONCILE_INTERVAL)[0]:
                with suppress(redis.RedisError, OSError):
                    reconciler.release()
                return


def wait_for_schema(app: Flask, processes: Processes) -> str | None:
    """Return when the database has its tables, which release makes, or when we are to stop.

    Tables of another revision than ours are a fault, and so is a file that is no database: a sentence that says so is
    returned.
    """
    told = False
    while not processes.stopping:
        try:
            with app.app_context():
                fault = revision.fault(db.engine)
                there = fault is None or not fault.startswith(revision.EMPTY)
                db.engine.dispose()
        except DATABASE_GONE as error:
            there = False
            log.warning("no database: %s", error.orig)
        if there:
            return fault
        if not told:
            log.info("waiting for the database's tables (flask db upgrade)")
            told = True
        processes.wait(SCHEMA_WAIT)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
