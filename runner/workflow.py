"""Fit a submission's workflow elements one after another, and predict with them: see elements/."""

import numbers
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.model_selection import StratifiedShuffleSplit

from .elements import KINDS, find_element
from .labels import classes_of, has_targets

# The calibrator is fitted on a tenth of the fold's rows that the classifier has not seen.
CALIBRATION = StratifiedShuffleSplit(n_splits=1, test_size=0.1, random_state=57)

LARGE = 16_000_000  # bytes; what takes less is taken in one thread
N_THREADS = min(os.cpu_count() or 1, 4)  # more would wait for the memory


class BadPredictions(Exception):
    """Predictions that are no array of real numbers; the message says what they are."""


def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Return the rows of X at these positions: X's own kind for frames, arrays and matrices, a list for the rest."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if sparse.issparse(X):
        return X.tocsr()[rows]
    if type(X) is np.ndarray and X.flags.c_contiguous and not X.dtype.hasobject:
        return _take_rows_of_memory(X, rows)
    if hasattr(X, "shape"):
        return X[rows]
    return [X[i] for i in rows.tolist()]


def _take_rows_of_memory(X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return X[rows], in several threads where it is large: to get memory takes as long as to write to it."""
    if not len(X) or len(rows) * X[:1].nbytes < LARGE or rows.min() < 0 or rows.max() >= len(X):
        return X[rows]
    taken = np.empty((len(rows), *X.shape[1:]), X.dtype)
    pieces = zip(*(np.array_split(array, N_THREADS) for array in (rows, taken)), strict=True)
    try:
        with ThreadPoolExecutor(N_THREADS) as pool:
            list(pool.map(lambda piece: np.take(X, piece[0], axis=0, out=piece[1], mode="clip"), pieces))
    except RuntimeError:  # so few processes are allowed
        return X[rows]
    return taken


def n_rows(X: Any) -> int:
    """Return how many rows X has."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


class Workflow:
    """The elements of one submission; `modules` are its imported files, by element name."""

    def __init__(self, modules: dict[str, ModuleType]) -> None:
        self._steps = {kind: [] for kind in KINDS}
        for name, module in modules.items():
            kind, element = find_element(name)
            self._steps[kind].append((element, module))
        self._fitted_transformers: list[tuple[ModuleType, Any]] = []
        self._fitted_predictors: list[tuple[ModuleType, Any]] = []

    def fit(self, X: Any, y: np.ndarray) -> None:
        """Fit all elements on the fold's rows."""
        self._classes = classes_of(y)
        for element, module in self._steps["transformers"]:
            fitted = element.fit(module, X, y)
            X = element.transform(fitted, X)
            self._fitted_transformers.append((element, fitted))
        [(predictor, module)] = self._steps["predictors"]
        if not self._steps["calibrators"]:
            self._fitted_predictors = [(predictor, predictor.fit(module, X, y))]
            return
        train_is, calibration_is = next(CALIBRATION.split(y, y))
        fitted = predictor.fit(module, take_rows(X, train_is), y[train_is])
        probabilities = predictor.predict(fitted, take_rows(X, calibration_is))
        [(calibrator, module)] = self._steps["calibrators"]
        self._fitted_predictors = [
            (predictor, fitted),
            (calibrator, calibrator.fit(module, probabilities, y[calibration_is])),
        ]

    def predict(self, X: Any, classes: list | None) -> np.ndarray:
        """Return the predictions of the rows of X: float64, C order, a column for each of `classes` if there are any.

        Raises BadPredictions, or whatever the submission raises.
        """
        for element, fitted in self._fitted_transformers:
            X = element.transform(fitted, X)
        for element, fitted in self._fitted_predictors:
            X = element.predict(fitted, X)
        return as_predictions(X, self._classes, classes)


def as_predictions(values: Any, seen: list, classes: list | None) -> np.ndarray:
    """Return predictions as one float64 array, with a column of zeros for each class that the fold's rows lack.

    Parameters
    ----------
    values : what the predictor returned; a list of arrays, one for each target, is laid side by side.
    seen : the classes of the fold's rows, as `classes_of` gives them.
    classes : the same of the whole training part; None where values are predicted.

    Raises BadPredictions.
    """
    if classes is None:
        return as_floats(values)
    if not has_targets(classes):
        return _all_classes(as_floats(values), seen, classes)
    if isinstance(values, Sequence) and len(values) == len(classes) and all(np.ndim(part) == 2 for part in values):
        parts = [_all_classes(as_floats(part), *both) for part, *both in zip(values, seen, classes, strict=True)]
        return np.ascontiguousarray(np.hstack(parts))
    return as_floats(values)


def _all_classes(predictions: np.ndarray, seen: list, classes: list) -> np.ndarray:
    if len(seen) == len(classes) or predictions.ndim != 2 or predictions.shape[1] != len(seen):
        return predictions
    everything = np.zeros((len(predictions), len(classes)))
    column = {label: i for i, label in enumerate(classes)}
    everything[:, [column[label] for label in seen]] = predictions
    return everything


def as_floats(values: Any) -> np.ndarray:
    """Return predictions of any numeric kind as a plain float64 array in C order, or raise BadPredictions."""
    if sparse.issparse(values):
        raise BadPredictions("The predictions are a sparse matrix, expected an array of numbers.")
    try:
        array = np.asarray(values)
    except ValueError as error:
        if "inhomogeneous" not in str(error):  # raised by what the submission returned
            raise
        raise BadPredictions("The predictions are rows of different lengths, expected an array of numbers.") from None
    if np.ma.is_masked(values):
        raise BadPredictions("The predictions are masked in places, expected an array of numbers.")
    if array.dtype.kind == "O" and all(isinstance(value, numbers.Real | np.bool) for value in array.flat):
        array = _cast(array)
    if array.dtype.kind not in "biuf":
        raise BadPredictions(f"The predictions are {_kind_name(values, array)}, expected an array of numbers.")
    return _cast(array)


def _cast(array: np.ndarray) -> np.ndarray:
    """Return real numbers as float64, of which those that are too large are infinite, or raise BadPredictions."""
    try:
        with np.errstate(all="ignore"):  # which the submission may have set to raise
            return np.array(array, dtype="<f8", order="C", subok=False)
    except OverflowError:  # of Python's numbers, which have no infinity
        raise BadPredictions(
            "The predictions hold a number that is too large, expected numbers that a float64 holds."
        ) from None


def _kind_name(values: Any, array: np.ndarray) -> str:
    if array.ndim == 0 and array.dtype.kind == "O":
        return f"a {type(values).__name__}"
    return f"of type {array.dtype}"
