"""A data set's own Python file: how it is imported, and what its functions return.

    prepare_data(raw_data_path)         once; the posted files lie in that folder, and it may write more
    get_train_data(raw_data_path)       the pair (X, y) of the training part
    get_test_data(raw_data_path)        the pair (X, y) of the held-out rows; y is dropped
    train_submission(module_path, X, y, train_is)   optional, and only together: the trained model of a fold
    test_submission(trained_model, X, test_is)      its predictions of these rows of X

The file is stored as specific.py; other Python files lie beside it as modules. In a fold's process `train_submission`
sees the fold's rows alone, as rows 0 to n - 1, and `module_path` is the package of the submission's files.
"""

import inspect
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .elements import can_run
from .labels import DataError, classes_of
from .posted import DATA_FUNCTIONS, FOLD_FUNCTIONS, ORGANISER, SPECIFIC, is_code
from .workflow import as_predictions, n_rows, take_rows

ARGUMENTS = dict(zip((*DATA_FUNCTIONS, *FOLD_FUNCTIONS), (1, 1, 1, 4, 3), strict=True))  # how many each function takes
ROWS = "expected X.shape and X[array of rows], or len(X) and X[i]"
NAME_LENGTH = 200  # characters of the name of an error


def import_specific(folder: Path) -> ModuleType:
    """Import the data set's own file, and check that it defines what it must; raises DataError, or what it raises.

    The folder stands in the search path, behind the libraries and before a submission's files.
    """
    package = ModuleType(ORGANISER)
    package.__path__ = [str(folder)]
    package.__spec__ = ModuleSpec(ORGANISER, None, is_package=True)
    sys.modules[ORGANISER] = package
    sys.path.append(str(folder))
    module = import_module(f"{ORGANISER}.{SPECIFIC}")
    missing = [name for name in DATA_FUNCTIONS if not hasattr(module, name)]
    if missing:
        raise DataError(f"it defines no {' and no '.join(missing)}; expected are {', '.join(DATA_FUNCTIONS)}.")
    if hasattr(module, FOLD_FUNCTIONS[0]) != hasattr(module, FOLD_FUNCTIONS[1]):
        raise DataError("it defines one of train_submission and test_submission, expected both or none.")
    for name in ARGUMENTS:
        if hasattr(module, name):
            _check_arguments(module, name)
    return module


def _check_arguments(module: ModuleType, name: str) -> None:
    try:
        signature = inspect.signature(getattr(module, name))
    except ValueError:  # of what is not written in Python, nobody knows
        return
    except TypeError as error:
        raise DataError(f"{name} {error}.") from None
    try:
        signature.bind(*range(ARGUMENTS[name]))
    except TypeError as error:
        raise DataError(f"{name} cannot take {ARGUMENTS[name]} arguments: {error}.") from None


def check_workflow(workflow_elements: Sequence[str]) -> None:
    """Raise DataError where these elements cannot run without functions of the file's own."""
    if not can_run(list(workflow_elements)):
        raise DataError(
            f"it defines no train_submission and test_submission, and '{', '.join(workflow_elements)}' is no workflow "
            "that can run without them."
        )


def import_alone(folder: Path) -> ModuleType:
    """Import the file again as a fold's process does: without the data, which are removed from the folder."""
    for name in [name for name, module in sys.modules.items() if _lies_in(folder, module)]:
        del sys.modules[name]
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not is_code(path.name):
            path.unlink()
    return import_specific(folder)


def _lies_in(folder: Path, module: ModuleType | None) -> bool:
    path = getattr(module, "__file__", None)
    return path is not None and Path(path).is_relative_to(folder)


def trains(module: ModuleType) -> bool:
    """Whether the file trains and tests submissions itself."""
    return hasattr(module, FOLD_FUNCTIONS[0])


def is_needed(folder: Path, used: Iterable[str]) -> bool:
    """Whether one of the modules `used`, imported by now, is a file in the folder."""
    return any(_lies_in(folder, sys.modules.get(name)) for name in used)


def get_data(function: Callable[[str], Any], folder: Path) -> tuple[Any, Any]:
    """Return the X and y that one of the file's functions returns; raises DataError where it returns no pair."""
    returned = function(str(folder))
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise DataError(f"it returned a value {_kind(returned)}, expected the pair (X, y).")
    X, y = returned
    return X, y


def check_rows(X: Any, n_labels: int | None = None) -> None:
    """Raise DataError where the rows of X cannot be counted, selected, or matched to that many labels."""
    try:
        n = n_rows(X)
    except TypeError:
        raise DataError(f"the rows of its X, {_kind(X)}, cannot be counted; {ROWS}.") from None
    if n == 0:
        raise DataError("its X has no rows.")
    if n_labels not in (None, n):
        raise DataError(f"its X has {n} rows and its y has {n_labels}.")
    try:
        taken = n_rows(take_rows(X, np.arange(n)[-1:]))
    except Exception as error:  # of whatever kind X is
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"rows cannot be selected from its X, {_kind(X)}; {ROWS}. {why}") from None
    if taken != 1:
        raise DataError(f"its X, {_kind(X)}, gives {taken} rows for one; {ROWS}.")


def check_numbers_of_rows(X_train: Any, X_test: Any, expected: Sequence[int]) -> None:
    """Raise DataError where these features have other numbers of rows than the split has told."""
    for name, X, n in zip(("X_train", "X_test"), (X_train, X_test), expected, strict=True):
        if n_rows(X) != n:
            raise DataError(f"{name} has {n_rows(X)} rows, and the split told of {n}.")


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"


class OwnWorkflow:
    """Trains and tests a submission by the file's own functions; it is used as a `Workflow` is."""

    def __init__(self, module: ModuleType, module_path: str) -> None:
        self._module = module
        self._module_path = module_path

    def fit(self, X: Any, y: np.ndarray) -> None:
        self._classes = classes_of(y)
        self._trained_model = self._module.train_submission(self._module_path, X, y, np.arange(len(y)))

    def predict(self, X: Any, classes: list | None) -> np.ndarray:
        values = self._module.test_submission(self._trained_model, X, np.arange(n_rows(X)))
        return as_predictions(values, self._classes, classes)


def fault_of(error: BaseException, folder: Path) -> str | None:
    """Return which error it is, and which line of the data set's own files it came from; None where no line takes part.

    The same fault in the trial and in a fold is the file's.
    """
    places = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    theirs = [(path, line) for path, line in places if path.is_relative_to(folder)]
    if not theirs:
        return None
    path, line = theirs[-1]
    return f"{type(error).__name__[:NAME_LENGTH]} in {path.relative_to(folder)}, line {line}"
