"""Parse a data set, and split its rows into a training and a held-out test part."""

import numbers
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from .elements import keeps_frame
from .labels import PLAIN, DataError, is_long
from .posted import separator
from .workflow import take_rows


@dataclass(frozen=True)
class Parts:
    """A data set, split."""

    split_is: np.ndarray  # int64: n_train rows of the training part, then n_test
    n_train: int
    X_train: Any
    X_test: Any
    y_train: np.ndarray  # numbers, booleans or text, no objects


def split_table(
    file: BinaryIO, name: str, target_column: str, workflow_elements: list[str], held_out_test: float, random_state: int
) -> Parts:
    """Split the rows of a CSV as scikit-learn's `train_test_split(np.arange(n), ...)` does.

    The end of `name` says how the file is compressed and its columns separated. The features are the columns that are
    no target, with a row index counted from 0 in each part: the DataFrame for a workflow whose first element takes it,
    otherwise a plain array.

    Raises DataError where the file is no such table, lacks a target column, or holds no usable labels.
    """
    compression = "gzip" if name.lower().endswith(".gz") else None
    try:
        frame = pd.read_csv(file, sep=separator(name), compression=compression)
    except MemoryError:
        raise
    except Exception as error:  # pandas passes on what reads the text or unpacks the file
        raise DataError(f"The CSV cannot be read: {error}") from None
    targets = target_columns(target_column, frame.columns)
    labels = [frame.pop(name) for name in targets]
    y = plain_labels(pd.concat(labels, axis=1) if len(labels) > 1 else labels[0])
    try:
        train_is, test_is = train_test_split(np.arange(len(frame)), test_size=held_out_test, random_state=random_state)
    except ValueError as error:
        raise DataError(f"The {len(frame)} rows cannot be split: {error}") from None
    if keeps_frame(workflow_elements):
        X_train, X_test = (take_rows(frame, rows).reset_index(drop=True) for rows in (train_is, test_is))
    else:
        X = frame.to_numpy()
        X_train, X_test = X[train_is], X[test_is]
    return Parts(np.concatenate([train_is, test_is]).astype("<i8"), len(train_is), X_train, X_test, y[train_is])


def target_columns(target_column: str, columns: Collection[str]) -> list[str]:
    """Return the names of the target columns: one that is a column, or several between commas; a name may hold some."""
    if target_column in columns:
        return [target_column]
    targets: list[str] = []
    begun: list[str] = []  # the pieces of a name that is no column yet
    for piece in target_column.split(","):
        begun.append(piece)
        name = ",".join(begun)
        if name in columns or name.strip() in columns:
            targets.append(name if name in columns else name.strip())
            begun.clear()
    if missing := [name for piece in begun if (name := piece.strip()) not in columns]:
        raise DataError(f"The CSV has no column {', '.join(map(repr, missing))}.")
    return list(dict.fromkeys(targets))


def plain_labels(labels: Any, different_kinds: bool = False) -> np.ndarray:
    """Return labels as an array of numbers, booleans or text: (n,), or (n, t) for several targets.

    These may be of different kinds where that is said: see labels.py. Raises DataError for missing, infinite, mixed or
    other ones.
    """
    try:
        if isinstance(labels, list | tuple):
            y = np.array(labels, dtype=object)  # else numbers among texts would become texts
        else:
            y = labels.to_numpy() if hasattr(labels, "to_numpy") else np.asarray(labels)
    except ValueError:
        raise DataError("The labels are rows of different lengths.") from None
    if y.ndim not in (1, 2):
        raise DataError(f"The labels have {y.ndim} dimensions, expected one, or two for several targets.")
    _refuse(pd.isna(y), "missing")
    if y.dtype.kind == "O":
        y = _without_objects(y)
    if y.dtype.kind == "O" and y.ndim == 2 and different_kinds:
        targets = [plain_labels(target) for target in y.T]
        table = np.empty(len(y), [(f"target_{i}", target.dtype) for i, target in enumerate(targets)])
        for name, target in zip(table.dtype.names, targets, strict=True):
            table[name] = target
        return table
    if is_long(y.dtype):
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused as that
            y = y.astype(float)
    if y.dtype.kind == "f":
        _refuse(np.isinf(y), "infinite")
    if y.dtype.kind not in PLAIN:
        kind = getattr(labels, "dtype", y.dtype)
        raise DataError(f"The labels are of type {kind}, expected numbers, booleans or text, not a mixture.")
    return np.ascontiguousarray(y)


def _refuse(unusable: np.ndarray, what: str) -> None:
    rows = np.flatnonzero(unusable.reshape(len(unusable), -1).any(axis=1))
    if len(rows):
        raise DataError(f"{len(rows)} labels are {what}; the first is in row {rows[0]}.")


def _without_objects(y: np.ndarray) -> np.ndarray:
    """Return an array of objects of one kind as one of that kind; as it is where they are a mixture."""
    for kind, dtype in ((str, str), (bool | np.bool, bool), (numbers.Real | np.bool, None)):
        if all(isinstance(label, kind) for label in y.flat):
            return np.array(y.tolist(), dtype)
    return y
