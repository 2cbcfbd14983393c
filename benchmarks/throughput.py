"""Throughput of many folds on as many workers as cores, beside Celery, plain RQ and the ideal.

All are kept from working (SIGSTOP) until everything is in their queues; the clock runs from then to the last result.
The ideal is the CPU time of the same folds, one process a core and nothing else running, divided by the cores. Each
round has all of them, one after another: what the machine gives may change from one minute to the next.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import mean, median

import psutil
from sqlalchemy import create_engine, text

from config import CORES

from . import data, peer_database, peers
from .figures import Figure
from .scratch import scratch_folder
from .service import Service, fold_body, service

ROUNDS = 2
TRIAL = 100  # trees, by which the others are found
POLL_INTERVAL = 0.05  # seconds between two looks at the database
TIMEOUT = 300  # seconds


def measure(quick: bool) -> Iterator[Figure]:
    tree = seconds_of_a_tree()
    shapes = [("20 ms", 0.02, 30 if quick else 200), ("1 s", 1.0, 4 if quick else 20)]
    for name, training, folds in shapes:
        n_trees = max(1, round(training / tree))
        with scratch_folder() as folder:
            peers.write_inputs(folder, data.forest(n_trees))
            rates = run(folder, n_trees, folds)
        what = f"{ROUNDS} times {folds} folds of {name}, {CORES} workers"
        ours = rates.pop("datarun")
        for system, theirs in rates.items():
            yield Figure(what, "folds/s", ours, system, theirs, GOALS.get((name, system)))


GOALS = {
    ("1 s", "the ideal"): ("ratio at least", 0.95),
    ("1 s", "Celery"): ("ratio at least", 1.0),
    ("20 ms", "Celery"): ("ratio at least", 0.4),
}


def seconds_of_a_tree() -> float:
    """Return the CPU seconds that a tree of a forest takes on this machine, predictions included."""
    with scratch_folder() as folder:
        peers.write_inputs(folder, data.forest(TRIAL))
        with peers.warm_process(folder) as process:
            cpu = []
            for _ in range(5):
                process.start()
                cpu.append(process.read()["cpu"])
    return median(cpu) / TRIAL


def run(folder: Path, n_trees: int, folds: int) -> dict[str, list[float]]:
    """Return the folds a second of each system in each round, all of them running, one at a time at work."""
    with ExitStack() as stack:
        running = stack.enter_context(service(folder / "home"))
        database = running.config.database_url
        systems: dict[str, Callable[[], float]] = {"datarun": Datarun(running, folder, n_trees, folds).time}
        for name, start in (("Celery", peers.celery), ("RQ", peers.rq)):
            queue = stack.enter_context(start(folder, CORES))
            systems[name] = peer(queue, folder, database, folds)
        warm = [stack.enter_context(peers.warm_process(folder)) for _ in range(CORES)]
        systems["the ideal"] = lambda: ideal(warm, folds)
        rates: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(ROUNDS):
            for name, time_of in systems.items():
                rates[name].append(folds / time_of())
        return rates


class Datarun:
    """Posts folds of one submission, as many again each time."""

    def __init__(self, running: Service, folder: Path, n_trees: int, folds: int) -> None:
        self._service = running
        self._ids = count(1)
        self._folds = folds
        self._rows = data.iris_fold()
        self._new = {"raw_data": running.post_data("iris", folder / "iris.csv")}
        self._new["files"] = {"classifier.py": data.forest(n_trees)}
        self._engine = create_engine(running.config.database_url)
        running.split(self._new["raw_data"])

    def time(self) -> float:
        with held(self._service.worker_processes()) as released:
            for _ in range(self._folds):
                last = self._post()
        wait_for(lambda: self._final() == last)
        return time.perf_counter() - released[0]

    def _post(self) -> int:
        fold_id = next(self._ids)
        body = fold_body(fold_id, 1, self._rows, **(self._new if fold_id == 1 else {}))
        self._service.post("submissionfold/", body)
        return fold_id

    def _final(self) -> int:
        with self._engine.connect() as connection:
            return connection.scalar(text("SELECT count(*) FROM submission_fold WHERE state = 'TESTED'"))


def peer(queue: peers.TaskQueue, folder: Path, database: str, folds: int) -> Callable[[], float]:
    """Return the function that has Celery or RQ do the folds, and returns the seconds."""
    engine = peer_database.engine(database)

    def seconds() -> float:
        peer_database.empty(engine)
        processes = [p for main in queue.processes for p in (main, *main.children(recursive=True))]
        with held(processes) as released:
            for number in range(folds):
                queue.enqueue(str(folder), database, number)
        wait_for(lambda: peer_database.recorded(engine) == folds)
        return time.perf_counter() - released[0]

    return seconds


def ideal(warm: list[peers.WarmProcess], folds: int) -> float:
    """Return the CPU seconds of the folds divided by the cores, as many processes as cores at work."""
    cpu: list[float] = []
    while len(cpu) < folds:
        for process in warm:
            process.start()
        cpu += [process.read()["cpu"] for process in warm]
    return mean(cpu) * folds / len(warm)


@contextmanager
def held(processes: list[psutil.Process]) -> Iterator[list[float]]:
    """Keep processes from running; at the end, the list given has the time of their release."""
    released: list[float] = []
    for process in processes:
        process.suspend()
    try:
        yield released
    finally:
        released.append(time.perf_counter())
        for process in processes:
            process.resume()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + TIMEOUT
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"not all folds ended within {TIMEOUT} s")
        time.sleep(POLL_INTERVAL)
