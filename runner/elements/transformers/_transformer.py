"""`NAME_transformer.py`: a class Transformer with `fit(X, y)` and `transform(X)`; the first X is the DataFrame."""

from types import ModuleType
from typing import Any


def fit(module: ModuleType, X: Any, y: Any) -> Any:
    transformer = module.Transformer()
    transformer.fit(X, y)
    return transformer


def transform(fitted: Any, X: Any) -> Any:
    return fitted.transform(X)
