import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        p = np.full((len(X), 3), 0.5)
        p[7, 2] = np.inf
        return p
