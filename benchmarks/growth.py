"""Latency with many folds in the database: a high-priority fold, the light list, and reconciliation.

The workers listen to the high queue alone, so that waiting folds of low priority stay where they are.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jobs
from config import Config
from reconciliation import LEASE, Reconciler

from . import data, filled, peers
from .figures import Figure
from .latency import Client
from .scratch import scratch_folder
from .service import Service, service

FLAT = 1.25  # times what it is without other folds, or per fold of a shorter list
Level = tuple[int, int]  # final and waiting folds
LATENCY, RECONCILIATION, LIST = "a high-priority fold", "reconciliation", "submissionfold-light/, per 1,000 folds"


def measure(quick: bool) -> Iterator[Figure]:
    """Compare levels, of final and waiting folds, with the empty database.

    The light list is as long as there are folds, and reconciliation looks at each that waits: neither can be flat in
    those, so lists are compared per fold, and reconciliation has a goal in final folds alone.
    """
    levels = [(0, 0), (10_000, 0), (10_000, 1_000)]
    if not quick:
        levels = [(0, 0), (10_000, 0), (100_000, 0), (0, 10_000), (100_000, 10_000)]
    with scratch_folder() as folder:
        peers.write_inputs(folder, data.forest(20))
        measured = measure_levels(folder, levels, 8 if quick else 10)
    for level in levels[1:]:
        final, waiting = level
        name = f"{final:,} final folds, {waiting:,} waiting"
        ms = measured[level]
        flat = ("ratio at most", FLAT)
        yield Figure(f"{name}: {LATENCY}", "ms", ms[LATENCY], "with none", measured[0, 0][LATENCY], flat)
        goal = None if waiting else flat
        yield Figure(
            f"{name}: {RECONCILIATION}", "ms", ms[RECONCILIATION], "with none", measured[0, 0][RECONCILIATION], goal
        )
        if level != levels[1]:
            compared_to = f"with {sum(levels[1]):,}"
            yield Figure(f"{name}: {LIST}", "ms", ms[LIST], compared_to, measured[levels[1]][LIST], flat)


def measure_levels(folder: Path, levels: list[Level], repeats: int) -> dict[Level, dict[str, list[float]]]:
    """Return milliseconds by level and by what was measured; a service for each level, taking turns."""
    with ExitStack() as stack:
        benches = {level: stack.enter_context(Bench.running(folder, *level)) for level in levels}
        for _ in range(repeats):
            for bench in benches.values():
                bench.measure()
    return {level: bench.ms for level, bench in benches.items()}


class Bench:
    """Measures the service of one level."""

    def __init__(self, running: Service, client: Client) -> None:
        self._service = running
        self._client = client
        self.ms: dict[str, list[float]] = {LATENCY: [], LIST: [], RECONCILIATION: []}

    @classmethod
    @contextmanager
    def running(cls, folder: Path, final: int, waiting: int) -> Iterator["Bench"]:
        home = folder / f"{final}-{waiting}"
        with service(home, workers=0) as web:
            filled.fill(web.config, final, waiting)
        with service(home, workers=1, queues=("high",), RECONCILE_INTERVAL=3600.0) as started:
            client = Client(started, folder)
            client.time()
            yield cls(started, client)

    def measure(self) -> None:
        self.ms[LATENCY].append(1000 * self._client.time())
        start = time.perf_counter()
        n_folds = len(self._service.get("submissionfold-light/"))
        self.ms[LIST].append(1000 * (time.perf_counter() - start) / n_folds * 1000)
        self.ms[RECONCILIATION].append(1000 * time_of_reconciliation(self._service.config))


def time_of_reconciliation(config: Config) -> float:
    """Look once through what is not final, as the leader among the service's reconcilers; return the seconds."""
    with filled.opened(config):
        queue = jobs.connection(config)
        queue.delete(LEASE)
        reconciler = Reconciler(config, queue)
        reconciler.run()  # connects
        start = time.perf_counter()
        reconciler.run()
        seconds = time.perf_counter() - start
        reconciler.release()
    return seconds
