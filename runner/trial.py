"""Try a data set's own train_submission and test_submission: at the split, with a submission that does nothing."""

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from .elements import can_run
from .labels import DataError
from .organiser import OwnWorkflow
from .workflow import BadPredictions, n_rows

STAND_IN = "stand_in"  # the package of a submission that does nothing
MOST_COLUMNS = 100  # of what a stand-in returns
# Raised by a line of the file itself, these are its faults: under elements that we know, and under any.
CERTAIN = (NameError, ImportError, ZeroDivisionError, NotImplementedError)
CERTAIN_UNDER_ANY = (NameError, ImportError)
NO_BRANCH = UnboundLocalError  # a NameError; it comes, too, where none of the file's branches fits a submission
OF_THE_SYSTEM = (OSError, MemoryError)  # a file may look for a submission's folder


class Trial:
    """Trains and tests a submission that does nothing, with files of these names, by the file's own functions.

    Elements that we know are tried once. What others bring and return, the file alone knows: their stand-ins have every
    name and answer with arrays of one form and another, until one of these is what the file expects.
    """

    def __init__(self, module: ModuleType, folder: Path, names: Sequence[str]) -> None:
        self._module = module
        self._folder = folder
        self._known = can_run(list(names))
        self._stand_ins = StandInModules(names, known_element if self._known else any_element)
        sys.meta_path.append(self._stand_ins)

    def attempts(self) -> Iterator[None]:
        """Begin one attempt after another."""
        if self._known:
            yield
            return
        for form in FORMS:
            StandInOfAny._form = form
            yield

    def run(self, X_train: Any, y: np.ndarray, X_test: Any) -> list[list[int]] | None:
        """Return the shapes of the predictions of both parts; None where elements may have any.

        Raises what the functions raise, which fail without a line of a participant; DataError where no predictions
        come.
        """
        StandInOfAny._n_classes = min(len(np.unique(y if y.ndim == 1 else y[:, 0])), MOST_COLUMNS)
        workflow = OwnWorkflow(self._module, STAND_IN)
        workflow.fit(X_train, y)
        try:
            shapes = [list(workflow.predict(X, None).shape) for X in (X_train, X_test)]
        except BadPredictions as error:
            if not self._known:
                return None
            raise DataError(f"test_submission does not pass on predictions. {error}") from None
        return shapes if self._known else None

    def is_certain(self, error: BaseException) -> bool:
        """Whether this error is the file's fault, whatever a submission is and returns."""
        if is_about_stand_in(error):
            return False
        if not self._stand_ins.used and not isinstance(error, OF_THE_SYSTEM):
            return True  # it came before anything of a submission took part
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename[:7] != "<frozen"]
        while frames[-1].name == "__getattr__":  # of a module that says itself what it lacks: PEP 562
            frames.pop()
        raised_in = Path(frames[-1].filename)
        if raised_in == Path(__file__):  # the stand-in refused, or `run`
            return self._known
        if not raised_in.is_relative_to(self._folder):
            return False
        if isinstance(error, AttributeError):
            return isinstance(error.obj, ModuleType)
        if self._known:
            return isinstance(error, CERTAIN)
        return isinstance(error, CERTAIN_UNDER_ANY) and not isinstance(error, NO_BRANCH)


def is_about_stand_in(error: BaseException) -> bool:
    """Whether a submission that brings more than the stand-in would not have met this error."""
    if isinstance(error, ImportError):
        module = sys.modules.get(str(error.name))
        return str(error.name).startswith(STAND_IN) or isinstance(getattr(module, "__loader__", None), StandInModules)
    message = "".join(traceback.format_exception_only(error))
    return StandIn.__name__ in message or STAND_IN in message


class StandInModules(MetaPathFinder, Loader):
    """Finds, after all others, the files of a submission that does nothing, in its package and by their names alone.

    `used` says whether the data set's own file has come as far as to import one of them.
    """

    def __init__(self, names: Sequence[str], element: Callable[[str], Any]) -> None:
        self._names = set(names)
        self._element = element
        self.used = False

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        if fullname == STAND_IN:
            return ModuleSpec(fullname, self, is_package=True)
        return ModuleSpec(fullname, self) if fullname.removeprefix(f"{STAND_IN}.") in self._names else None

    def create_module(self, _spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self.used = True
        module.__getattr__ = self._element  # PEP 562


class StandIn(ClassifierMixin, BaseEstimator):
    """Any element that we know: features of zeros, equal probabilities of all classes, the first label for each row."""

    def fit(self, X: Any, y: Any = None, *_: Any, **__: Any) -> "StandIn":
        self._y = np.asarray(y)
        if y is not None and len(self._y) != n_rows(X):
            raise ValueError(f"{n_rows(X)} rows came with {len(self._y)} labels")
        self.classes_ = np.unique(self._y)
        return self

    def transform(self, X: Any, *_: Any, **__: Any) -> np.ndarray:
        return np.zeros((n_rows(X), 1))

    def fit_transform(self, X: Any, y: Any = None, *_: Any, **__: Any) -> np.ndarray:
        return self.fit(X, y).transform(X)

    def predict_proba(self, X: Any, *_: Any, **__: Any) -> np.ndarray:
        return np.full((n_rows(X), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X: Any, *_: Any, **__: Any) -> np.ndarray:
        return self._y[np.zeros(n_rows(X), dtype=int)]


ELEMENTS = ("FeatureExtractor", "Transformer", "get_estimator", "Classifier", "Regressor", "Calibrator")


def known_element(name: str) -> type[StandIn]:
    """Return what a file of an element that we know brings under this name."""
    if name not in ELEMENTS:
        raise AttributeError(f"{STAND_IN} has no {name}")
    return StandIn


Form = Callable[[str, int, int], np.ndarray]  # what the method of a name returns for n rows and k classes


def as_scikit_learn(name: str, n: int, k: int) -> np.ndarray:
    """The form that scikit-learn's methods of such names return; one value for each row from others."""
    if name in ("predict_proba", "predict_log_proba", "decision_function"):
        return np.full((n, k), 1 / k)
    return np.zeros((n, 1)) if name.endswith("transform") else np.zeros(n, dtype=int)


FORMS: tuple[Form, ...] = (
    as_scikit_learn,
    lambda name, n, k: np.full((n, max(k, 2)), 0.5),
    lambda name, n, k: np.arange(n).reshape(n, 1),
)


class StandInOfAny(BaseEstimator):
    """An object of an element that we do not know: it has every method."""

    _form: ClassVar[Form]
    _n_classes: ClassVar[int]

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return []

    def __getattr__(self, name: str) -> "StandInMethod":
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__} has no {name}")
        return StandInMethod(self, name)


class StandInMethod:
    """A method of such an object, or a function of such a file: an array for an X, else the object."""

    def __init__(self, element: StandInOfAny, name: str) -> None:
        self._element = element
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        [X, *_] = [*args, *kwargs.values(), None]
        if self._name in ("fit", "partial_fit") or isinstance(X, str):
            return self._element
        try:
            return StandInOfAny._form(self._name, n_rows(X), StandInOfAny._n_classes)
        except (TypeError, IndexError):  # not an X
            return self._element


def any_element(name: str) -> Any:
    """Return what a file of any other element brings under this name: a class, or a function."""
    if name.startswith("__"):
        raise AttributeError(f"{STAND_IN} has no {name}")
    return StandInOfAny if name[0].isupper() else StandInMethod(StandInOfAny(), name)
