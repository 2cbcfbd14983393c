"""`classifier.py`: a class Classifier with `fit(X, y)` and `predict_proba(X)`."""

from types import ModuleType
from typing import Any

from .. import PROBABILITIES

PREDICTS = (PROBABILITIES,)


def fit(module: ModuleType, X: Any, y: Any) -> Any:
    clf = module.Classifier()
    clf.fit(X, y)
    return clf


def predict(fitted: Any, X: Any) -> Any:
    return fitted.predict_proba(X)
