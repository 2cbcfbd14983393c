import os

import numpy as np


class Classifier:
    def fit(self, X, y):
        while True:
            os.write(1, b"x" * 65536)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
