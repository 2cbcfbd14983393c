import os
import sys

import numpy as np


class Classifier:
    def fit(self, X, y):
        folders = [
            "/tmp",
            "/var/tmp",
            "/dev/shm",
            "/dev/mqueue",
            "/run/lock",
            "/",
            os.path.expanduser("~"),
            np.__path__[0],
        ]
        folders += [
            sys.prefix,
            sys.base_prefix,
            os.path.dirname(os.__file__),
            *sys.path,
            "/proc/self/cwd/../..",
            "/dev",
        ]
        for folder in folders:
            try:
                os.mkdir(f"{folder}/left-by-a-fold")
                with open(f"{folder}/left-by-a-fold.txt", "w") as file:
                    file.write("x")
            except OSError:
                pass

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
