import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin


class Estimator(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.zeros((len(X), 7))


def get_estimator():
    return Estimator()
