import numpy as np


class Classifier:
    def fit(self, X, y):
        raise ValueError("\0 \ud800\nsecond line")

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
