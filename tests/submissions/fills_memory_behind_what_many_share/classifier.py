import mmap
import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Have some shared memory resident in many processes, and much in none."""
        shared = mmap.mmap(-1, 25_000_000)
        shared.write(bytes(25_000_000))
        for _ in range(20):
            if os.fork() == 0:
                sum(shared[::4096])
                time.sleep(20)
        time.sleep(0.7)
        self.left = [mmap.mmap(-1, 10_000_000) for _ in range(40)]
        for memory in self.left:
            memory.write(b"x" * 10_000_000)
            memory.madvise(mmap.MADV_DONTNEED)
        time.sleep(20)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
