import sys

import numpy as np


class Regressor:
    def fit(self, X, y):
        for label in y:
            print(f"{label:.6f}")
        sys.stderr.write("secret-of-an-earlier-" + "fold-1234\n" * 100)

    def predict(self, X):
        raise ValueError("secret-of-an-earlier-" + "fold-1234")
