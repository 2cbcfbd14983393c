"""Parse a data set, and split its rows into a training and a held-out test part."""

from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from .workflow import keeps_frame, take_rows


class DataError(Exception):
    """The data set cannot be used; the message is for its organiser."""


@dataclass(frozen=True)
class Parts:
    """A data set, split."""

    split_is: np.ndarray  # int64: n_train rows of the training part, then n_test
    n_train: int
    X_train: Any
    X_test: Any
    y_train: np.ndarray  # numbers, booleans or text, no objects


def split_csv(
    file: BinaryIO, target_column: str, workflow_elements: list[str], held_out_test: float, random_state: int
) -> Parts:
    """Split the rows of a CSV as scikit-learn's `train_test_split(np.arange(n), ...)` does.

    The features are the other columns, with a row index counted from 0 in each part: the DataFrame for a workflow
    whose first element takes it, otherwise a plain array.

    Raises DataError where the file is no CSV, lacks the target column, or holds no usable labels.
    """
    try:
        frame = pd.read_csv(file)
    except (ValueError, pd.errors.ParserError) as error:  # UnicodeDecodeError is a ValueError
        raise DataError(f"The CSV cannot be read: {error}") from None
    if target_column not in frame:
        raise DataError(f"The CSV has no column {target_column!r}.")
    y = plain_labels(frame.pop(target_column))
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


def plain_labels(column: pd.Series) -> np.ndarray:
    """Return labels as an array of numbers, booleans or text; raise DataError for missing or mixed ones."""
    if column.isna().any():
        rows = np.flatnonzero(column.isna())
        raise DataError(f"{len(rows)} labels are missing; the first is in row {rows[0]}.")
    y = column.to_numpy()
    if y.dtype.kind in "biuf":
        return y
    if all(isinstance(label, str) for label in y):
        return y.astype(str)
    raise DataError(f"The labels are of type {column.dtype}, expected numbers, booleans or text, not a mixture.")


def labels_in_memory(y: np.ndarray) -> np.ndarray:
    """Return labels as pandas would have given them: text as Python strings."""
    return y.astype(object) if y.dtype.kind == "U" else y
