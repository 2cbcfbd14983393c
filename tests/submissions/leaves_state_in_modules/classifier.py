import builtins
import os
import random
import sys

import numpy as np
import sklearn.ensemble


class Classifier:
    def fit(self, X, y):
        np.random.seed(99)
        random.seed(99)
        np.random.RandomState = None
        np.seterr(all="raise")
        os.environ["OMP_NUM_THREADS"] = "7"
        builtins.len = lambda x: 7
        sys.path.insert(0, os.getcwd())
        sys.modules["sklearn"] = None
        sklearn.ensemble.RandomForestClassifier = None

    def predict_proba(self, X):
        return np.full((X.shape[0], 3), 1 / 3)
