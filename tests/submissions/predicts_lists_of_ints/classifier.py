import numpy as np


class Classifier:
    def fit(self, X, y):
        self.n_classes = len(np.unique(y))

    def predict_proba(self, X):
        return [[1] + [0] * (self.n_classes - 1)] * len(X)
