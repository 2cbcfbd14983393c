import subprocess
import sys

import json
import numpy as np


class Classifier:
    def fit(self, X, y):
        json.dumps(np.ones(1).tolist())
        subprocess.run([sys.executable, "-P", "-c", "import numpy, json"], check=True)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
