import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return np.array([[0.25, 0, np.float32(0.75)]] * len(X), dtype=object)
