import numpy as np


class Frequencies:
    def fit(self, X, y):
        self.classes, counts = np.unique(y, return_counts=True)
        self.frequencies = counts / len(y)

    def predict_proba(self, X):
        return np.tile(self.frequencies, (len(X), 1))

    def predict(self, X):
        return self.classes[self.predict_proba(X).argmax(axis=1)]


def get_estimator():
    return Frequencies()
