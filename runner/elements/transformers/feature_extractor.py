"""`feature_extractor.py`: a class FeatureExtractor with `fit(X, y)` and `transform(X)`; X is the DataFrame."""

from types import ModuleType
from typing import Any


def fit(module: ModuleType, X: Any, y: Any) -> Any:
    feature_extractor = module.FeatureExtractor()
    feature_extractor.fit(X, y)
    return feature_extractor


def transform(fitted: Any, X: Any) -> Any:
    return fitted.transform(X)
