"""The data sets and submissions that the benchmarks run on."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold, train_test_split

HELD_OUT_TEST = 0.2  # fraction of the rows
RANDOM_STATE = 42
N_COLUMNS = 50  # of wide data
CELLS = 10_000  # different numbers in wide data
BLOCK = 100_000  # rows written at once

FOREST = """from sklearn.ensemble import RandomForestClassifier


class Classifier:
    def fit(self, X, y):
        self.clf = RandomForestClassifier(n_estimators={n_trees}, random_state=0).fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
"""

# Prints when its `fit` was entered, and learns nothing.
STAMP = """import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        print("entered", time.time())

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)
"""


def forest(n_trees: int) -> str:
    """Return the submission's classifier.py; training takes 0.5 to 1.5 ms a tree."""
    return FOREST.format(n_trees=n_trees)


def write_iris(path: Path) -> None:
    load_iris(as_frame=True).frame.to_csv(path, index=False)


def iris_fold() -> tuple[np.ndarray, np.ndarray]:
    """Return train_is and test_is of the first of five folds, counted from the training part's first row."""
    y = load_iris().target
    train_part, _ = train_test_split(np.arange(len(y)), test_size=HELD_OUT_TEST, random_state=RANDOM_STATE)
    return next(StratifiedKFold(5).split(train_part, y[train_part]))


def write_wide(path: Path, n_rows: int, seed: int = 0) -> None:
    """Write a CSV of `n_rows` rows: N_COLUMNS numbers with four decimals, and a target of two classes."""
    rng = np.random.default_rng(seed)
    cells = np.array([f"0.{i:04},".encode() for i in range(CELLS)])
    targets = np.array([b"0\n", b"1\n"])
    with path.open("wb") as file:
        file.write(",".join([*(f"x{i}" for i in range(N_COLUMNS)), "target"]).encode() + b"\n")
        for start in range(0, n_rows, BLOCK):
            n = min(BLOCK, n_rows - start)
            numbers = cells[rng.integers(CELLS, size=(n, N_COLUMNS))].view(np.uint8).reshape(n, -1)
            labels = targets[rng.integers(2, size=(n, 1))].view(np.uint8).reshape(n, -1)
            file.write(np.hstack([numbers, labels]).tobytes())


def wide_row_size() -> int:
    """Return the bytes of one row of wide data."""
    return N_COLUMNS * len("0.0000,") + len("0\n")
