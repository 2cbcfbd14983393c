"""Latency with many folds in the database: a high-priority fold, the light list, and reconciliation.

The workers listen to the high queue alone, so that waiting folds of low priority stay where they are.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import jobs
from config import Config
from reconciliation import Reconciler

from . import data, filled, peers
from .figures import Figure
from .latency import Client
from .scratch import scratch_folder
from .service import service

FLAT = 1.25  # times what it is without other folds, or per fold of a shorter list
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
        measured = {level: measure_level(folder, *level, 5 if quick else 10) for level in levels}
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


def measure_level(folder: Path, final: int, waiting: int, repeats: int) -> dict[str, list[float]]:
    """Return milliseconds by what was measured."""
    home = folder / f"{final}-{waiting}"
    ms: dict[str, list[float]] = {LATENCY: [], LIST: [], RECONCILIATION: []}
    with service(home, workers=0) as running:
        filled.fill(running.config, final, waiting)
    with service(home, queues=("high",)) as running:
        client = Client(running, folder)
        client.time()
        for _ in range(repeats):
            ms[LATENCY].append(1000 * client.time())
            start = time.perf_counter()
            n_folds = len(running.get("submissionfold-light/"))
            ms[LIST].append(1000 * (time.perf_counter() - start) / n_folds * 1000)
    with service(home, workers=0) as running:
        ms[RECONCILIATION] = [1000 * seconds for seconds in times_of_reconciliation(running.config, repeats)]
    return ms


def times_of_reconciliation(config: Config, repeats: int) -> Iterator[float]:
    with filled.opened(config):
        reconciler = Reconciler(config, jobs.connection(config))
        reconciler.run()
        for _ in range(repeats):
            start = time.perf_counter()
            reconciler.run()
            yield time.perf_counter() - start
        reconciler.release()
