import numpy as np


class Classifier:
    def fit(self, X, y):
        nested = ()
        for _ in range(1_000_000):
            nested = (nested,)
        hash(nested)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
