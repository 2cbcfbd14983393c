"""A data set of 1 GB on its way through upload, storage, fetch, split and a fold: seconds, and memory of the service.

The memory is that of web and of the worker's own processes; what the split and the fold themselves use is bounded by
MEMORY_LIMIT.
"""

import time
from collections.abc import Iterator

import numpy as np
import psutil

from tests.servers import wait_until

from . import data
from .figures import Figure
from .memory import MB, growth
from .scratch import scratch_folder
from .service import Service, fold_body, service

UPLOAD = 64  # MB of web, whatever the size
FIXED = 64  # MB of web for a fold, and of the worker for anything, and for each row:
BYTES_A_ROW = 64  # indices, labels and predictions, which both hold whole
FOLD_TIMEOUT = 300  # seconds


def measure(quick: bool) -> Iterator[Figure]:
    size = 200 if quick else 600  # MB
    n_rows = size * MB // data.wide_row_size()
    most = FIXED + n_rows * BYTES_A_ROW / MB
    with scratch_folder() as folder, service(folder / "home", workers=1) as running:
        csv = folder / "large.csv"
        data.write_wide(csv, n_rows)
        steps = {
            "upload": lambda: running.post_data("large", csv),
            "split": lambda: running.split(1),
            "fold": lambda: train(running, n_rows),
        }
        for name, step in steps.items():
            start = time.perf_counter()
            with growth(running.web_processes()) as web, growth(own_processes(running)) as worker:
                step()
            what = f"{size} MB: {name}"
            yield Figure(what, "s", [time.perf_counter() - start])
            yield Figure(f"{what}, growth of web", "MB", [web.mb], goal=("at most", most if name == "fold" else UPLOAD))
            yield Figure(f"{what}, growth of the worker", "MB", [worker.mb], goal=("at most", most))


def own_processes(running: Service) -> list[psutil.Process]:
    """Return the worker's processes but for the zygote and what it forks."""
    children = [child for child in running.worker.children() if "runner.zygote" not in child.cmdline()]
    return [running.worker, *children]


def train(running: Service, n_rows: int) -> None:
    """Train a fold that needs all of the data."""
    n_train = n_rows - int(np.ceil(data.HELD_OUT_TEST * n_rows))
    rows = np.split(np.arange(n_train), [n_train // 2])
    running.post("submissionfold/", fold_body(1, 1, rows, raw_data=1, files={"classifier.py": data.STAMP}))
    wait_until(lambda: running.final(1), FOLD_TIMEOUT, "the fold is tested")
