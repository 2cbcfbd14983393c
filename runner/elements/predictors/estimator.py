"""`estimator.py`: a function `get_estimator()` that returns a scikit-learn estimator or pipeline; X is the DataFrame.

A classifier predicts probabilities, by `predict_proba`; any other estimator predicts values, by `predict`. Own classes
often lack scikit-learn's tags: what has a `predict_proba` is a classifier, too.
"""

from types import ModuleType
from typing import Any

from .. import PROBABILITIES, VALUES

KEEPS_FRAME = True
PREDICTS = (PROBABILITIES, VALUES)


def fit(module: ModuleType, X: Any, y: Any) -> Any:
    estimator = module.get_estimator()
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        what = f"the class {estimator.__name__}" if isinstance(estimator, type) else f"a {type(estimator).__name__}"
        raise TypeError(f"get_estimator() returned {what}, expected an object with a method fit")
    estimator.fit(X, y)
    return estimator


def predict(fitted: Any, X: Any) -> Any:
    from sklearn.base import is_classifier

    tagged = hasattr(fitted, "__sklearn_tags__") and is_classifier(fitted)
    return fitted.predict_proba(X) if tagged or hasattr(fitted, "predict_proba") else fitted.predict(X)
