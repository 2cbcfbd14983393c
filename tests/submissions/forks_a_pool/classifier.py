import multiprocessing
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Have eight processes share what this one has in memory."""
        with multiprocessing.Pool(8) as pool:
            pool.map(time.sleep, [0.5] * 8)
        self.n_classes = len(np.unique(y))

    def predict_proba(self, X):
        return np.ones((len(X), self.n_classes))
