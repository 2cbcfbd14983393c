import subprocess

import numpy as np


class Classifier:
    def fit(self, X, y):
        for _ in range(400):
            subprocess.run(["/bin/sh", "-c", "/bin/true &"], check=True)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
