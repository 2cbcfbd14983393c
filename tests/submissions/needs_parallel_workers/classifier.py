"""Honest: what submissions do with the cores that they get."""

import logging
import multiprocessing
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score


def square(x):
    return x * x


class Classifier:
    def fit(self, X, y):
        assert Parallel(n_jobs=2)(delayed(square)(i) for i in range(20)) == [i * i for i in range(20)]
        assert Parallel(n_jobs=-1, prefer="threads")(delayed(square)(i) for i in range(20))[-1] == 361
        assert Parallel(n_jobs=2)(delayed(np.sum)(np.ones(200_000)) for _ in range(2)) == [200_000.0] * 2
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        with tempfile.TemporaryDirectory() as folder:
            rows = np.memmap(Path(folder, "rows"), dtype=float, mode="w+", shape=X.shape)
            rows[:] = X
            assert np.array_equal(np.memmap(Path(folder, "rows"), dtype=float, mode="r", shape=X.shape), X)
        done = subprocess.run([sys.executable, "-c", "import sklearn; print(1)"], capture_output=True, text=True)
        assert done.stdout == "1\n", done.stderr
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.warn("unseen")
        logging.getLogger("submission").debug("unseen")
        KMeans(3, n_init=2, random_state=0).fit(X)
        HistGradientBoostingClassifier(max_iter=5).fit(X, y)
        assert cross_val_score(RandomForestClassifier(10, n_jobs=2, random_state=0), X, y, n_jobs=2).mean() > 0.8
        grid = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0]}, cv=3, n_jobs=-1)
        self.clf = grid.fit(X, y).best_estimator_

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
