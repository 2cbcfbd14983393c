import threading

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Reach the kernel's limit of one process as soon as that of all of them."""
        values = np.random.rand(1_000_000)

        def burn():
            while True:
                np.sort(values)

        for _ in range(4):
            threading.Thread(target=burn, daemon=True).start()
        burn()

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
