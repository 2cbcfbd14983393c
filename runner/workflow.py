"""Fit a submission's workflow elements one after another, and predict with them.

An element is a module below `elements/`; the folder that it lies in says which place it takes in a workflow:
transformers (any number), then one predictor, then optionally a calibrator.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.model_selection import StratifiedShuffleSplit

KINDS = ("transformers", "predictors", "calibrators")
# The calibrator is fitted on a tenth of the fold's rows that the classifier has not seen.
CALIBRATION = StratifiedShuffleSplit(n_splits=1, test_size=0.1, random_state=57)


class BadPredictions(Exception):
    """Predictions that are no array of real numbers; the message says what they are."""


def find_element(name: str) -> tuple[str, ModuleType]:
    """Return the kind and the module of a workflow element."""
    for kind in KINDS:
        if (Path(__file__).parent / "elements" / kind / f"{name}.py").is_file():
            return kind, importlib.import_module(f"runner.elements.{kind}.{name}")
    raise ValueError(f"unknown workflow element {name!r}")


def keeps_frame(workflow_elements: list[str]) -> bool:
    """Whether the first element takes the DataFrame itself; otherwise it gets a plain array."""
    kind, element = find_element(workflow_elements[0])
    return kind == "transformers" or getattr(element, "KEEPS_FRAME", False)


def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Return the rows of X at these positions, whatever X is."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(X, list | tuple):
        return [X[i] for i in rows]
    if sparse.issparse(X):
        return X.tocsr()[rows]
    return X[rows]


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
        self._classes = np.unique(y) if y.ndim == 1 else None
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
        predictions = as_floats(X)
        return predictions if classes is None else self._all_classes(predictions, classes)

    def _all_classes(self, predictions: np.ndarray, classes: list) -> np.ndarray:
        """Give each class that the fold's rows lack a column of zeros."""
        seen = self._classes
        if len(seen) == len(classes) or predictions.ndim != 2 or predictions.shape[1] != len(seen):
            return predictions
        everything = np.zeros((len(predictions), len(classes)))
        everything[:, np.searchsorted(np.array(classes, dtype=seen.dtype), seen)] = predictions
        return everything


def as_floats(values: Any) -> np.ndarray:
    """Return predictions of any numeric kind as a plain float64 array in C order, or raise BadPredictions."""
    if sparse.issparse(values):
        raise BadPredictions("The predictions are a sparse matrix, expected an array of numbers.")
    try:
        array = np.asarray(values)
    except ValueError:
        raise BadPredictions("The predictions are rows of different lengths, expected an array of numbers.") from None
    if array.dtype.kind not in "biuf":
        raise BadPredictions(f"The predictions are {_kind_name(values, array)}, expected an array of numbers.")
    return np.array(array, dtype="<f8", order="C", subok=False)


def _kind_name(values: Any, array: np.ndarray) -> str:
    if array.ndim == 0 and array.dtype.kind == "O":
        return f"a {type(values).__name__}"
    return f"of type {array.dtype}"
