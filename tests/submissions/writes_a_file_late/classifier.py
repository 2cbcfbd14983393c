import time
from pathlib import Path

from sklearn.linear_model import LogisticRegression


class Classifier:
    def fit(self, X, y):
        print("asleep", flush=True)
        time.sleep(3)
        Path("notes").write_bytes(bytes(1_000_000))
        self.clf = LogisticRegression().fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
