"""`calibrator.py`: a class Calibrator with `fit(X, y)` and `predict_proba(X)`; X is the classifier's probabilities."""

from types import ModuleType
from typing import Any


def fit(module: ModuleType, X: Any, y: Any) -> Any:
    calibrator = module.Calibrator()
    calibrator.fit(X, y)
    return calibrator


def predict(fitted: Any, X: Any) -> Any:
    return fitted.predict_proba(X)
