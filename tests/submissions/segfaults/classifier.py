import ctypes

import numpy as np


class Classifier:
    def fit(self, X, y):
        ctypes.string_at(0)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
