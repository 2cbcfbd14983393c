import mmap
import time

import numpy as np

PIECE = 10_000_000


class Classifier:
    def fit(self, X, y):
        """Write to memory that is not resident in any process afterwards, but still there."""
        kept = []
        while len(kept) < 150:
            kept.append(mmap.mmap(-1, PIECE))
            kept[-1].write(b"x" * PIECE)
            kept[-1].madvise(mmap.MADV_DONTNEED)
        time.sleep(1)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
