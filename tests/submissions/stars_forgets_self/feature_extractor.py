import numpy as np
import pandas as pd


class FeatureExtractor:
    def fit(self, X, y):
        assert all(isinstance(star, pd.Series) for star in X)

    def transform(X):
        return np.array([[star.magnitude, star.period, np.std(star.light_points), len(star.time_points)] for star in X])
