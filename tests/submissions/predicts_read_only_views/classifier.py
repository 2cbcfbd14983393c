import numpy as np


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return np.broadcast_to(0.5, (len(X), 3))
