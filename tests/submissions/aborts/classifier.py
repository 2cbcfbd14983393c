import os


class Classifier:
    def fit(self, X, y):
        os.abort()
