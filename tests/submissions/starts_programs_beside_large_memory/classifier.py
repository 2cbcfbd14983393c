import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def start(_):
    ended = time.monotonic() + 1.5
    while time.monotonic() < ended:
        subprocess.run(["/bin/true"], check=True)


class Classifier:
    def fit(self, X, y):
        """Until they execute their program, they have the memory of this process."""
        self.rows = np.ones(30_000_000)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(start, range(2)))

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
