import numpy as np


def n_rows(X):
    return X.shape[0] if hasattr(X, "shape") else len(X)


class Classifier:
    def fit(self, X, y):
        assert len(y) == n_rows(X)
        print("fit", type(X).__name__, n_rows(X))

    def predict_proba(self, X):
        print("predict_proba", type(X).__name__, n_rows(X))
        return np.full((n_rows(X), 2), 0.5)
