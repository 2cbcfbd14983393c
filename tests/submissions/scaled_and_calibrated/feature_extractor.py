import numpy as np


class FeatureExtractor:
    def fit(self, X, y):
        numbers = X.select_dtypes("number")
        self.mean, self.scale = numbers.mean(), numbers.std() + 1e-9

    def transform(self, X):
        numbers = X.select_dtypes("number")
        scaled = ((numbers - self.mean) / self.scale).to_numpy()
        return np.hstack([scaled, scaled**2])
