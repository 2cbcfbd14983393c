import numpy as np


class Array(np.ndarray):
    def __array_finalize__(self, other):
        self.seen = True

    def __array_function__(self, function, types, args, kwargs):
        raise RuntimeError("no")

    def __array_ufunc__(self, *args, **kwargs):
        raise RuntimeError("no")

    @property
    def shape(self):
        return (1, 1)

    @property
    def dtype(self):
        raise RuntimeError("no")


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return np.full((len(X), 3), 0.5).view(Array)
