import time
from pathlib import Path

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Use memory up to the limit, and what fits into /dev/shm on top, in files that are closed."""
        for i in range(10):
            Path(f"/dev/shm/file-{i}").write_bytes(bytes(14_000_000))
        self.rows = np.ones(71_000_000)
        time.sleep(20)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
