import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return np.eye(3, dtype=int)[np.zeros(len(X), dtype=int)]
