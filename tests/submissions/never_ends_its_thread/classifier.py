import atexit
import threading
import time

import numpy as np


def forever():
    while True:
        time.sleep(1)


class Classifier:
    def fit(self, X, y):
        self.n_classes = len(np.unique(y))
        threading.Thread(target=forever).start()
        atexit.register(forever)

    def predict_proba(self, X):
        return np.ones((len(X), self.n_classes))
