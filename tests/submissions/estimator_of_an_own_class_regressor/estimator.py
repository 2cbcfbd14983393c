import numpy as np


class Mean:
    def fit(self, X, y):
        self.mean = np.mean(y)

    def predict(self, X):
        return np.full(len(X), self.mean)


def get_estimator():
    return Mean()
