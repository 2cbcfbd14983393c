"""What datarun is compared to: a warm process, a script, ramp-test, Celery and RQ, on the same fold."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from celery import Celery
from redis import Redis
from rq import Queue

import queue_server
from tests.servers import running, wait_until

from . import data, peer_rq
from .figures import Skipped
from .scratch import ROOT

RAMP = "ramp-workflow==0.7.0"
RAMP_FOLDER = ROOT / ".venv-ramp"
RAMP_SHARED = ("numpy", "scipy", "pandas", "scikit-learn", "joblib")  # in the same versions as ours
START_TIMEOUT = 60  # seconds
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def environment() -> dict[str, str]:
    """The environment of all peers: one thread a fold, as datarun gives."""
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}


def write_inputs(folder: Path, classifier: str) -> None:
    """Write what `peer_tasks` reads."""
    data.write_iris(folder / "iris.csv")
    (folder / "classifier.py").write_text(classifier)
    train_is, test_is = data.iris_fold()
    np.savez(folder / "fold.npz", train_is=train_is, test_is=test_is)


def time_of_command(command: list[str | Path], folder: Path) -> float:
    """Run a command to its end; return its seconds."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def time_of_script(folder: Path) -> float:
    """Return the seconds of a fresh python that imports what it needs, and does one fold."""
    return time_of_command([sys.executable, "-m", "benchmarks.peer_tasks", folder], folder)


class WarmProcess:
    """A process that has all imported, and trains when told to."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self.read()

    def start(self) -> None:
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def read(self) -> dict[str, float]:
        """Return the seconds of a fold that was started: `wall` and `cpu`."""
        return json.loads(self._process.stdout.readline())

    def time(self) -> float:
        self.start()
        return self.read()["wall"]


@contextmanager
def warm_process(folder: Path) -> Iterator[WarmProcess]:
    command = [sys.executable, "-m", "benchmarks.peer_tasks", folder, "--warm"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield WarmProcess(process)
        finally:
            process.kill()


# ---- ramp-test

PROBLEM = """import numpy as np
import pandas as pd
import rampwf
from sklearn.model_selection import train_test_split

problem_title = "iris"
Predictions = rampwf.prediction_types.make_multiclass(label_names=[0, 1, 2])
workflow = rampwf.workflows.Classifier()
score_types = [rampwf.score_types.Accuracy(name="acc")]


def split(path):
    frame = pd.read_csv("iris.csv")
    y, X = frame.pop("target").to_numpy(), frame.to_numpy()
    return train_test_split(X, y, test_size={held_out_test}, random_state={random_state})


def get_train_data(path="."):
    X_train, _, y_train, _ = split(path)
    return X_train, y_train


def get_test_data(path="."):
    _, X_test, _, y_test = split(path)
    return X_test, y_test


def get_cv(X, y):
    fold = np.load("fold.npz")
    return [(fold["train_is"], fold["test_is"])]
"""


@cache
def install_ramp() -> Path:
    """Install ramp-workflow where it is not yet; return `ramp-test`. Raises Skipped."""
    program = RAMP_FOLDER / "bin" / "ramp-test"
    packages = [RAMP, *(f"{name}=={version(name)}" for name in RAMP_SHARED)]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        if not program.exists():
            subprocess.run([sys.executable, "-m", "venv", RAMP_FOLDER], **quiet)
            subprocess.run([RAMP_FOLDER / "bin" / "pip", "install", "--quiet", *packages], **quiet)
        subprocess.run([program, "--help"], **quiet)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped(f"{RAMP} cannot be installed here ({error})") from None
    return program


def write_ramp_kit(folder: Path) -> None:
    """Make the folder, which has what `write_inputs` wrote, one that ramp-test accepts."""
    problem = PROBLEM.format(held_out_test=data.HELD_OUT_TEST, random_state=data.RANDOM_STATE)
    (folder / "problem.py").write_text(problem)
    submission = folder / "submissions" / "forest"
    submission.mkdir(parents=True)
    (submission / "classifier.py").write_text((folder / "classifier.py").read_text())


def time_of_ramp(folder: Path) -> float:
    """Return the seconds of `ramp-test` on the folder. Raises Skipped where it cannot be installed."""
    return time_of_command([install_ramp(), "--submission", "forest"], folder)


# ---- Celery and RQ


@dataclass(frozen=True)
class TaskQueue:
    """Celery or RQ, its workers running; `enqueue` puts `train_and_record` with these arguments."""

    enqueue: Callable[..., object]
    processes: list[psutil.Process]  # the workers' main processes


@contextmanager
def broker_of(folder: Path) -> Iterator[str]:
    """Run a queue server as datarun's own is; give its URL. Ctrl-C at the terminal does not reach it."""
    queue_server.ensure(folder)
    try:
        yield queue_server.url(folder)
    finally:
        queue_server.stop(folder)


@contextmanager
def celery(folder: Path, concurrency: int) -> Iterator[TaskQueue]:
    """Run a prefork pool of `concurrency` processes."""
    with broker_of(folder / "celery") as url:
        broker = url.replace("unix://", "redis+socket://")
        command = [Path(sys.executable).with_name("celery"), "-A", "benchmarks.peer_celery", "-b", broker, "worker"]
        command += ["--pool", "prefork", "--concurrency", str(concurrency), "--loglevel", "INFO"]
        log = folder / "celery.log"
        with (
            running(command, log, cwd=folder, env=environment(), start_new_session=True) as process,
            Celery(broker=broker) as app,
        ):
            wait_until(lambda: " ready." in log.read_text(), START_TIMEOUT, f"Celery is ready: {log}")
            yield TaskQueue(
                lambda *arguments: app.send_task("train_and_record", arguments), [psutil.Process(process.pid)]
            )


@contextmanager
def rq(folder: Path, concurrency: int) -> Iterator[TaskQueue]:
    """Run `concurrency` plain RQ workers."""
    with broker_of(folder / "rq") as url, ExitStack() as stack:
        connection = Redis.from_url(url)
        command = [sys.executable, "-m", "benchmarks.peer_rq", url]
        workers = [
            stack.enter_context(
                running(command, folder / f"rq-{number}.log", cwd=folder, env=environment(), start_new_session=True)
            )
            for number in range(concurrency)
        ]
        queue = Queue(peer_rq.QUEUE, connection=connection)
        ready = lambda: connection.scard("rq:workers") == concurrency  # noqa: E731
        wait_until(ready, START_TIMEOUT, f"RQ workers are there: {folder}/rq-*.log")
        yield TaskQueue(
            lambda *arguments: queue.enqueue("benchmarks.peer_tasks.train_and_record", *arguments, result_ttl=0),
            [psutil.Process(worker.pid) for worker in workers],
        )
