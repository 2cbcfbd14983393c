import numpy as np


class Classifier:
    def fit(self, X, y):
        raise ValueError("x" * 5_000_000)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
