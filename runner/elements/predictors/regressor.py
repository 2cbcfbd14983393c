"""`regressor.py`: a class Regressor with `fit(X, y)` and `predict(X)`."""

from types import ModuleType
from typing import Any

from .. import VALUES

PREDICTS = (VALUES,)


def fit(module: ModuleType, X: Any, y: Any) -> Any:
    reg = module.Regressor()
    reg.fit(X, y)
    return reg


def predict(fitted: Any, X: Any) -> Any:
    return fitted.predict(X)
