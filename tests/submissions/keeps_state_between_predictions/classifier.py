import numpy as np


class Classifier:
    calls = 0

    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        self.calls += 1
        X[:] = 0  # its own copy
        return np.full((len(X), 3), float(self.calls))
