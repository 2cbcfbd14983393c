import os

import numpy as np


class Classifier:
    calls = 0

    def fit(self, X, y):
        os.fork()

    def predict_proba(self, X):
        """Predict what tells one call from the other."""
        self.calls += 1
        os.fork()
        return np.full((len(X), 3), self.calls / 8)
