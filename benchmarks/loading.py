"""Data sets of growing size: the time before a submission's `fit` is entered, beside reading the CSV.

Folds follow each other at once, as on a busy service. A virtual machine may give memory that was free for some seconds
back to its host (free page reporting); to have it again can take ten times as long as to use it.
"""

import re
import time
from collections.abc import Callable, Iterator
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Row, select

from models import SubmissionFold
from tests.servers import wait_until

from . import data
from .figures import Figure
from .peer_database import engine
from .scratch import scratch_folder
from .service import FINAL, Service, fold_body, service

GOALS = {100_000: 30, 1_000_000: 150}  # ms, by rows
FOLD_TIMEOUT = 120  # seconds
LATER = 10  # folds
N_READ = 3  # times that pandas reads the file
FRACTION = 0.8  # of the training part's rows, in a fold


def measure(quick: bool) -> Iterator[Figure]:
    sizes = (150, 100_000) if quick else (150, 100_000, 1_000_000)
    with scratch_folder() as folder, service(folder / "home") as running:
        for number, n_rows in enumerate(sizes):
            csv = folder / "wide.csv"
            data.write_wide(csv, n_rows)
            yield from measure_size(running, folder, csv, n_rows, first_id=1 + 100 * number)


def measure_size(running: Service, folder: Path, csv: Path, n_rows: int, first_id: int) -> Iterator[Figure]:
    n_train = n_rows - int(data.HELD_OUT_TEST * n_rows)
    rng = np.random.default_rng(0)
    raw_data = running.post_data(f"wide-{n_rows}", csv)
    running.split(raw_data)
    new = {"raw_data": raw_data, "files": {"classifier.py": data.STAMP}}
    X = warm_map(folder / "X.npy", n_train)
    rows = [drawn(rng, n_train) for _ in range(1 + LATER)]
    bodies = [
        fold_body(first_id + number, first_id, drawn_rows, priority="H", **(new if number == 0 else {}))
        for number, drawn_rows in enumerate(rows)
    ]
    seconds = [time_of_fold(running, body) for body in bodies]
    ms = {
        "accepted": [1000 * accepted for accepted, _ in seconds],
        "claimed": [1000 * claimed for _, claimed in seconds],
    }
    ms["selected"] = [1000 * time_of(getitem, X, train_is) for train_is, _ in rows]
    ms["read_csv"] = [1000 * time_of(pd.read_csv, csv) for _ in range(N_READ)]
    del X
    what = f"{n_rows:,} x {data.N_COLUMNS}"
    goal = ("at most", GOALS[n_rows]) if n_rows in GOALS else None
    yield Figure(
        f"{what}: POST answered to fit, first fold", "ms", ms["accepted"][:1], "pandas.read_csv", ms["read_csv"]
    )
    yield Figure(f"{what}: POST answered to fit, later", "ms", ms["accepted"][1:], "pandas.read_csv", ms["read_csv"])
    yield Figure(
        f"{what}: taken from the queue to fit, later",
        "ms",
        ms["claimed"][1:],
        "the selection alone",
        ms["selected"],
        goal,
    )


def drawn(rng: np.random.Generator, n_train: int) -> tuple[np.ndarray, np.ndarray]:
    """Return train_is and test_is of a fold, in order, drawn from the rows of the training part."""
    train_is, test_is = np.split(rng.permutation(n_train), [int(FRACTION * n_train)])
    return np.sort(train_is), np.sort(test_is)


def time_of_fold(running: Service, body: dict[str, Any]) -> tuple[float, float]:
    """Run a fold; return the seconds until `fit` is entered, since the POST's answer and since a worker's claim."""
    running.post("submissionfold/", body)
    posted = time.time()
    columns = (SubmissionFold.state, SubmissionFold.log_messages, SubmissionFold.started_at)
    fold_id = body["databoard_sf_id"]
    row = select(*columns).where(SubmissionFold.databoard_sf_id == fold_id)
    with engine(running.config.database_url).connect() as connection:  # the API's answer holds all predictions

        def ended() -> Row | None:
            found = connection.execute(row).one()
            connection.rollback()
            return found if found.state in FINAL else None

        fold = wait_until(ended, FOLD_TIMEOUT, f"fold {fold_id} ends")
    if not (entered := re.search(r"entered ([\d.]+)", fold.log_messages)):
        raise RuntimeError(f"fold {fold_id}: {fold.log_messages}")
    entered = float(entered[1])
    return entered - posted, entered - fold.started_at.timestamp()


def warm_map(path: Path, n_rows: int) -> np.ndarray:
    """Return a map, all of it in memory, of features as large as those of the data set."""
    made = np.lib.format.open_memmap(path, "w+", "f8", (n_rows, data.N_COLUMNS))
    made[:] = 0.5
    made.flush()
    del made
    X = np.load(path, mmap_mode="c")
    X.sum()
    return X


def time_of(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start
