"""A worker.py under test, and what a test waits for while it runs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import psutil
import rows
from flask import Flask

import jobs
import queue_server
from app import create_app
from config import Config
from models import RawData, State, SubmissionFold, User, db
from servers import DIES_WITH_PARENT, ROOT, USERNAME, is_alive, wait_until

SOON = 120  # seconds: a deadline, not a wait
FAST = {
    "WORKER_CONCURRENCY": 1,
    "HEARTBEAT_INTERVAL": 0.2,
    "DEAD_AFTER": 1.5,
    "RECONCILE_INTERVAL": 0.3,
    "GRACE_PERIOD": 1.0,
    "TIME_LIMIT": 20.0,
}


class Running:
    """A worker.py under test."""

    def __init__(self, config: Config, log: Path, queues: tuple[str, ...] = (), within: Sequence[str] = ()) -> None:
        self.config = config
        self._log = log
        environment = {f.name: str(getattr(config, f.name)) for f in fields(Config)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*DIES_WITH_PARENT, *within, sys.executable, "worker.py", *queues],
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.main = psutil.Process(self.process.pid)
        self._known: set[psutil.Process] = {self.main}

    def log(self) -> str:
        return self._log.read_text()

    def logged(self, words: str, times: int = 1) -> None:
        wait_until(lambda: self.log().count(words) >= times, SOON, f"{words!r} in {self.log()}")

    def workers(self) -> list[psutil.Process]:
        """The forked children: workers, and one reconciler."""
        return [child for child in self.main.children() if child.cmdline()[:2] == self.main.cmdline()[:2]]

    def zygote(self) -> psutil.Process:
        return next(child for child in self.main.children() if "runner.zygote" in child.cmdline())

    def remember(self) -> None:
        self._known.update(self.main.children(recursive=True))

    def left(self) -> list[psutil.Process]:
        """What is still alive of all that was remembered."""
        return [process for process in self._known if is_alive(process)]

    def slot(self) -> psutil.Process:
        """The slot of the only worker: its stem."""
        children = wait_until(lambda: len(found := self.zygote().children()) == 1 and found, SOON, "there is one slot")
        return children[0]

    def kill_workers(self) -> None:
        """Kill the workers, and the reconciler with them: all are started again."""
        self.remember()
        for process in self.workers():
            process.kill()

    def end(self) -> None:
        """Stop it, unless it was; none of its processes may be left. Print its log, for a test that failed."""
        if self.process.poll() is None:
            self.stop()
        print(self.log())
        wait_until(lambda: not self.left(), SOON, f"all gone: {self.left()}")

    def stop(self, signum: int = signal.SIGTERM) -> int:
        self.remember()
        self.process.send_signal(signum)
        return self.process.wait(SOON)


@contextmanager
def application(config: Config, password_hash: str) -> Iterator[Flask]:
    """The web application on a database that is made, with its tables and one user."""
    app = create_app(config)
    with app.app_context():
        rows.create_tables()
        db.session.add(User(username=USERNAME, password_hash=password_hash))
        db.session.commit()
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


@contextmanager
def instance(config: Config, password_hash: str, logs: Path, within: Sequence[str] = ()) -> Iterator[Running]:
    """Run a worker.py that several tests share, in the context of an app; with the embedded queue, end that too."""
    with application(config, password_hash) as app, app.app_context():
        running = Running(config, logs / "worker.log", within=within)
        try:
            yield running
            assert running.stop() == 0
        finally:
            db.session.rollback()
            queue_server.stop(config.DATARUN_HOME)
            running.end()


def fresh(row: Any) -> Any:
    """The row as it is now."""
    db.session.rollback()
    db.session.refresh(row)
    db.session.rollback()
    return row


def final(row: SubmissionFold, timeout: float = SOON) -> SubmissionFold:
    wait_until(lambda: fresh(row).state in (State.TESTED, State.ERROR), timeout, f"fold {row.databoard_sf_id} ends")
    return row


def split(data: RawData) -> RawData:
    """Enqueue the split of a data set and wait for its end."""
    jobs.enqueue(data)
    wait_until(lambda: fresh(data).split_state in (State.DONE, State.ERROR), SOON, "the split ends")
    return data


def iris_fold(kind: str = "sleeps", **columns: Any) -> SubmissionFold:
    """Post iris, split by a worker that is there, and a fold of such a submission; enqueue it."""
    data = split(rows.raw_data())
    fold = rows.fold(rows.submission(data, kind), **columns)
    assert jobs.enqueue(fold)
    return fold


def asleep(fold: SubmissionFold) -> SubmissionFold:
    """Wait until the submission `sleeps` sleeps, as its log says while it runs."""
    wait_until(lambda: "asleep" in (fresh(fold).log_messages or ""), SOON, "the submission sleeps")
    return fold
