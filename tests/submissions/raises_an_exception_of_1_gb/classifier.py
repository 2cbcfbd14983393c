import numpy as np


class Huge(Exception):
    def __str__(self):
        return "x" * 1_000_000_000


class Classifier:
    def fit(self, X, y):
        raise Huge

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
