import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        if os.fork() == 0:
            os.setsid()
            print("said by a child", flush=True)
            while True:
                time.sleep(1)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
