"""The API's answers under load, with authentication, beside the bare SQL and `json.dumps` of the same rows.

Only the web runs: what is posted stays in the queue.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import Engine, insert

from models import FoldIndices, SubmissionFold

from . import data, filled
from .figures import Figure
from .memory import growth
from .peer_database import engine
from .scratch import scratch_folder
from .service import PASSWORD, USERNAME, Service, fold_body, service
from .traffic import CONNECTIONS, Load, Request, load

FOLD_COLUMNS = (
    "f.databoard_sf_id, databoard_s, train_is, test_is, priority, task_id, state, cause, full_train_predictions, "
    "test_predictions, log_messages, train_time, validation_time, test_time, train_cpu_time, test_cpu_time, "
    "train_memory, test_memory, isolation, new"
)
FOLD_TABLES = (
    "submission_fold f JOIN fold_indices i ON i.databoard_sf_id = f.databoard_sf_id "
    "LEFT JOIN fold_predictions p ON p.databoard_sf_id = f.databoard_sf_id"
)
LIGHT = "SELECT databoard_sf_id, databoard_s, state, new FROM submission_fold ORDER BY databoard_sf_id"
ONE = f"SELECT {FOLD_COLUMNS} FROM {FOLD_TABLES} WHERE f.databoard_sf_id = {filled.FIRST_ID}"
ALL = f"SELECT {FOLD_COLUMNS} FROM {FOLD_TABLES} ORDER BY f.databoard_sf_id"
NEW = f"SELECT {FOLD_COLUMNS} FROM {FOLD_TABLES} WHERE state = 'TESTED' AND new ORDER BY f.databoard_sf_id"
STREAM_MEMORY = 64  # MB


def measure(quick: bool) -> Iterator[Figure]:
    n_folds, repeats, duration = (20_000, 2, 0.5) if quick else (100_000, 2, 2.0)
    with scratch_folder() as folder, service(folder / "home", workers=0) as running:
        filled.fill(running.config, final=n_folds)
        bench = Bench(running, repeats, duration)
        yield from bench.authentication()
        yield from bench.rows("submissionfold/<id>/", f"submissionfold/{filled.FIRST_ID}/", ONE)
        yield from bench.rows(f"submissionfold-light/, {n_folds:,} folds", "submissionfold-light/", LIGHT, 3.0)
        yield from bench.list(f"submissionfold/, {n_folds:,} folds", Request("GET", "/runapp/submissionfold/"), ALL)
        yield from bench.posts()
    n_folds = 50 if quick else 500
    with scratch_folder() as folder, service(folder / "home", workers=0) as running:
        filled.fill(running.config, undelivered=n_folds, size=1_000_000)
        bench = Bench(running, repeats, duration)
        request = Request("POST", "/runapp/testpredictions/new/", b"{}")
        yield from bench.list(f"testpredictions/new/, {n_folds} folds of 1 MB", request, NEW)


class Bench:
    """Measures one service."""

    def __init__(self, running: Service, repeats: int, duration: float) -> None:
        self._service = running
        self._repeats = repeats
        self._duration = duration
        self._engine = engine(running.config.database_url)
        self._service.get("rawdata/")  # pays scrypt

    def _load(self, request: Callable[[], Request], **options: Any) -> Load:
        return load(self._service.url, (USERNAME, PASSWORD), request, **{"duration": self._duration, **options})

    def authentication(self) -> Iterator[Figure]:
        """Compare two addresses that do not exist: one for users, one for everybody."""
        ms: dict[str, list[float]] = {"/runapp/nothing": [], "/nothing": []}
        for _ in range(100 * self._repeats):
            for path, values in ms.items():
                start = time.perf_counter()
                self._service.http.get(self._service.url.rstrip("/") + path)
                values.append(1000 * (time.perf_counter() - start))
        ours, theirs = ms.values()
        yield Figure("a 404 behind authentication", "ms", ours, "a 404 before it", theirs, ("at most over", 1.0))

    def rows(self, name: str, path: str, sql: str, limit: float | None = None) -> Iterator[Figure]:
        """Measure a GET, alone and under load, beside its SQL."""
        request = Request("GET", f"/runapp/{path}")
        goal = limit and ("ratio at most", limit)
        yield from self._compared(name, lambda: request, lambda: bare(self._engine, sql), goal)

    def posts(self) -> Iterator[Figure]:
        """Measure POSTs of further folds of a submission, beside bare inserts of such folds, committed one by one."""
        ids = count(1)
        rows = data.iris_fold()
        new = {"raw_data": filled.RAW_DATA, "files": {"classifier.py": data.STAMP}}
        self._service.post("submissionfold/", fold_body(next(ids), 1, rows, **new))

        def request() -> Request:
            body = fold_body(next(ids), 1, rows)
            return Request("POST", "/runapp/submissionfold/", json.dumps(body).encode())

        yield from self._compared("POST of a fold", request, lambda: insert_fold(self._engine, next(ids), rows))

    def _compared(
        self,
        name: str,
        request: Callable[[], Request],
        bare_work: Callable[[], None],
        goal: tuple[str, float] | None = None,
    ) -> Iterator[Figure]:
        alone, under_load, bares, grown = [], [], [], 0.0
        for _ in range(self._repeats):
            alone.append(self._load(request, connections=1))
            with growth(self._service.web_processes()) as memory:
                under_load.append(self._load(request))
            grown = max(grown, memory.mb)
            bares.append(repeated(bare_work, self._duration))
        theirs = [1000 * median(part.seconds) for part in bares]
        bare_name = "bare SQL and json.dumps"
        yield Figure(f"{name}, one client", "ms", [1000 * median(p.seconds) for p in alone], bare_name, theirs, goal)
        name = f"{name}, {CONNECTIONS} clients"
        yield Figure(name, "requests/s", [p.rate for p in under_load], bare_name, [p.rate for p in bares])
        p99 = [[1000 * part.p99 for part in parts] for parts in (under_load, bares)]
        yield Figure(f"{name}, 99th percentile", "ms", p99[0], bare_name, p99[1])
        yield Figure(f"{name}, growth of web", "MB", [grown], goal=("at most", STREAM_MEMORY))

    def list(self, name: str, request: Request, sql: str) -> Iterator[Figure]:
        """Measure one long answer, once, beside its SQL."""
        theirs = repeated(lambda: bare(self._engine, sql), 0.0).seconds
        with growth(self._service.web_processes()) as memory:
            seconds = self._load(lambda: request, connections=1, most=1).seconds
        yield Figure(name, "s", seconds, "bare SQL and json.dumps", theirs)
        yield Figure(f"{name}, growth of web", "MB", [memory.mb], goal=("at most", STREAM_MEMORY))


def repeated(work: Callable[[], None], duration: float) -> Load:
    """Do it again and again in this process, once at least."""
    result = Load()
    start = time.perf_counter()
    while not result.seconds or time.perf_counter() - start < duration:
        begun = time.perf_counter()
        work()
        result.seconds.append(time.perf_counter() - begun)
    result.wall = time.perf_counter() - start
    return result


def bare(database: Engine, sql: str) -> None:
    """Read rows through the database's driver, and make them JSON."""
    with closing(database.raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        names = [column[0] for column in cursor.description]
        json.dumps([dict(zip(names, map(as_text, row), strict=True)) for row in cursor])


def as_text(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def insert_fold(database: Engine, fold_id: int, rows: tuple[np.ndarray, np.ndarray]) -> None:
    """Commit a fold and its indices, as a POST does, and make JSON of it."""
    train_is, test_is = map(filled.pack, rows)
    fold = {"databoard_sf_id": fold_id, "databoard_s": filled.FIRST_ID}
    with database.begin() as connection:
        connection.execute(insert(SubmissionFold).values(fold))
        connection.execute(insert(FoldIndices).values(databoard_sf_id=fold_id, train_is=train_is, test_is=test_is))
    json.dumps({**fold, "train_is": as_text(train_is), "test_is": as_text(test_is)})
