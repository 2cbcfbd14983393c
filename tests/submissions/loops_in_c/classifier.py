import itertools

import numpy as np


class Classifier:
    def fit(self, X, y):
        sum(itertools.repeat(1))

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
