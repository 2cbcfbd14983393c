import subprocess
import sys

import numpy as np


class Classifier:
    def fit(self, X, y):
        code = "import sys, numpy; print(sys.prefix)"
        prefix = subprocess.run(["python", "-c", code], check=True, capture_output=True, text=True).stdout
        assert prefix.strip() == sys.prefix

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
