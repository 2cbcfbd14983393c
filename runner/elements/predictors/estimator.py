"""`estimator.py`: a function `get_estimator()` that returns a scikit-learn estimator or pipeline; X is the DataFrame.

A classifier predicts probabilities, by `predict_proba`; any other estimator predicts values, by `predict`.
"""

from types import ModuleType
from typing import Any

from .. import PROBABILITIES, VALUES

KEEPS_FRAME = True
PREDICTS = (PROBABILITIES, VALUES)


def fit(module: ModuleType, X: Any, y: Any) -> Any:
    estimator = module.get_estimator()
    estimator.fit(X, y)
    return estimator


def predict(fitted: Any, X: Any) -> Any:
    from sklearn.base import is_classifier

    return fitted.predict_proba(X) if is_classifier(fitted) else fitted.predict(X)
