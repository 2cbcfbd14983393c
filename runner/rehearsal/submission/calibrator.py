import numpy as np
from sklearn.isotonic import IsotonicRegression


class Calibrator:
    def fit(self, X, y):
        self.fitted = [IsotonicRegression(out_of_bounds="clip").fit(X[:, k], y == k) for k in range(X.shape[1])]

    def predict_proba(self, X):
        return np.column_stack([fitted.predict(X[:, k]) for k, fitted in enumerate(self.fitted)])
