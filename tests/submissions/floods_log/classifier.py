import os


class Classifier:
    def fit(self, X, y):
        while True:
            os.write(1, b"x" * 65536)
