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
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(start, range(4)))

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
