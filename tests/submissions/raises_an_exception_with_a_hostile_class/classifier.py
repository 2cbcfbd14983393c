import numpy as np


class Meta(type):
    @property
    def __name__(cls):
        raise RuntimeError("no")

    def __repr__(cls):
        raise RuntimeError("no")


class Nameless(Exception, metaclass=Meta):
    __module__ = property(lambda self: 1 / 0)

    def __str__(self):
        raise RuntimeError("no")


class Classifier:
    def fit(self, X, y):
        raise Nameless

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
