"""What runs in the processes that datarun is compared to: the same fit and predictions, isolated from nothing.

    python -m benchmarks.peer_tasks FOLDER          one fold, then the end: what a script costs
    python -m benchmarks.peer_tasks FOLDER --warm   a fold for each line on standard input, its times on standard output

FOLDER holds iris.csv, classifier.py and fold.npz (train_is, test_is). Celery and RQ workers call `train_and_record`.
"""

import json
import sys
import time
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import sklearn.ensemble  # noqa: F401 (the peers have it imported before they work, too)
from sklearn.model_selection import train_test_split

from .data import HELD_OUT_TEST, RANDOM_STATE


@cache
def load(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return X_train, X_test, y_train and train_is, split as datarun does."""
    frame = pd.read_csv(folder / "iris.csv")
    y, X = frame.pop("target").to_numpy(), frame.to_numpy()
    train_part, test_part = train_test_split(np.arange(len(y)), test_size=HELD_OUT_TEST, random_state=RANDOM_STATE)
    return X[train_part], X[test_part], y[train_part], np.load(folder / "fold.npz")["train_is"]


@cache
def submission(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Train on the fold; return the predictions of all training rows and of the test rows."""
    X_train, X_test, y_train, train_is = load(folder)
    clf = submission(folder / "classifier.py").Classifier()
    clf.fit(X_train[train_is], y_train[train_is])
    return clf.predict_proba(X_train), clf.predict_proba(X_test)


def train_and_record(folder: str, database_url: str, number: int) -> None:
    """Train, and commit the predictions as a row of the table `peer_result`."""
    from .peer_database import engine, record  # not among what a script would import

    full_train, test = train(Path(folder))
    record(engine(database_url), number, full_train.tobytes(), test.tobytes())


def warm(folder: Path) -> None:
    """Train once to have all imported, say so, then train for each line; a line out has wall and CPU seconds."""
    train(folder)
    print(json.dumps({}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        train(folder)
        print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}), flush=True)


if __name__ == "__main__":
    (warm if "--warm" in sys.argv else train)(Path(sys.argv[1]))
