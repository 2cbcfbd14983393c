import os

import numpy as np


class Classifier:
    def fit(self, X, y):
        for _ in range(10_000):
            os.mkdir("d")
            os.chdir("d")

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
