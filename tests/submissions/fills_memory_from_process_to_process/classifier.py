import mmap
import os
import time

import numpy as np

PIECE = 1_000_000


class Classifier:
    def fit(self, X, y):
        """Have shared memory in a process that is soon another one."""
        memory = mmap.mmap(-1, 900 * PIECE)
        if os.fork() == 0:
            for i in range(900):
                memory[i * PIECE : (i + 1) * PIECE] = b"x" * PIECE
                if os.fork():
                    os._exit(0)
            while True:
                if os.fork():
                    os._exit(0)
        memory.close()
        time.sleep(20)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
