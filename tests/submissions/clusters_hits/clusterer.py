import numpy as np


class Clusterer:
    def fit(self, X, y):
        self.middles = np.array([X[y == label].mean(axis=0) for label in np.unique(y)])

    def distances(self, X):
        return np.linalg.norm(X[:, None] - self.middles[None], axis=2)
