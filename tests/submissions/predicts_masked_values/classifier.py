import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return np.ma.masked_equal(np.tile([0.0, 0.5, 0.5], (len(X), 1)), 0.0)
