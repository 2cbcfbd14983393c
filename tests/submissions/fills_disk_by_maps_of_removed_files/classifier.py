import ctypes
import mmap
import tempfile
import time

import numpy as np

libc = ctypes.CDLL(None)


class Classifier:
    def fit(self, X, y):
        """Keep files that are gone and closed by a map of one page of each."""
        for _ in range(100):
            with tempfile.TemporaryFile() as file:
                file.write(bytes(1_000_000))
                file.flush()
                libc.mmap(None, ctypes.c_size_t(1), mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        time.sleep(2)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
