import os

import numpy as np


class Classifier:
    def fit(self, X, y):
        files = []
        while True:
            files.append(os.dup(0))

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
