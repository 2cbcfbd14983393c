import json
import mmap
import os
import stat
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        [marks] = [fd for fd in range(3, 64) if is_socket(fd)]
        kept = []
        for _ in range(10):
            memory = mmap.mmap(-1, 100_000_000)
            memory.write(b"x" * len(memory))
            kept.append(memory)
            os.write(marks, json.dumps({"mark": "started", "layers": []}).encode() + b"\n")
            os.read(marks, 1)
            time.sleep(0.06)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)


def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
