import numpy as np


class Classifier:
    def fit(self, X, y):
        self.n_classes = len(np.unique(y))

    def predict_proba(self, X):
        return np.ones((len(X), self.n_classes), dtype=">f4")
