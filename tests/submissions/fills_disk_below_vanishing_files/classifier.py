import os
import time

import numpy as np


def rename():
    """Have files here that are gone when they are looked at."""
    number = os.getpid()
    for i in range(40):
        with open(f"{number}-{i}", "w"):
            pass
    while True:
        for i in range(40):
            os.rename(f"{number}-{i}", f"{number}-{i}-")
        for i in range(40):
            os.rename(f"{number}-{i}-", f"{number}-{i}")


class Classifier:
    def fit(self, X, y):
        for _ in range(2):
            if os.fork() == 0:
                rename()
        os.makedirs("z/z/z")
        for i in range(30):
            with open(f"z/z/z/{i}", "wb") as file:
                file.write(bytes(1_000_000))
        time.sleep(20)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
