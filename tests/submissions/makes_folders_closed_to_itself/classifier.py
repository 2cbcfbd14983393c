import os
from pathlib import Path

import numpy as np


class Classifier:
    def fit(self, X, y):
        os.mkdir("victims", 0o700)
        os.symlink(Path.home(), "victims/home")
        for name in ("a", "b"):
            os.mkdir(name, 0o755)
            os.symlink(Path.home().parent, f"{name}/scratch")
            os.mkdir(f"{name}/below", 0o000)
            os.rename(name, name + "2")
        os.umask(0o777)
        os.mkdir("c")
        os.mkdir("d")

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
