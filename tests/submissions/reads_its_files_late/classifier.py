import time
from pathlib import Path

from sklearn.linear_model import LogisticRegression


class Classifier:
    def fit(self, X, y):
        print("asleep", flush=True)
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            Path(__file__).with_name("notes.txt").read_text()
            time.sleep(0.1)
        self.clf = LogisticRegression().fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
