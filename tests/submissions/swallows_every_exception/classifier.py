import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        while True:
            try:
                time.sleep(0.1)
                raise SystemExit
            except BaseException:
                pass

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
