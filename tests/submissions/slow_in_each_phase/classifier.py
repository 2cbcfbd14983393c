import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        time.sleep(1)

    def predict_proba(self, X):
        time.sleep(1)
        return np.ones((len(X), 3)) / 3
