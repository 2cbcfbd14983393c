import ctypes
import mmap
import os
import threading
import time

import numpy as np

EXIT = 60 if os.uname().machine == "x86_64" else 93
MB = 1_000_000


def hoard():
    maps = []
    for _ in range(15):
        maps.append(mmap.mmap(-1, 100 * MB))
        for start in range(0, 100 * MB, 4096):
            maps[-1][start] = 1
    time.sleep(60)


class Classifier:
    def fit(self, X, y):
        threading.Thread(target=hoard).start()
        ctypes.CDLL(None).syscall(EXIT, 0)  # this thread alone

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
