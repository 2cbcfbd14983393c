import numpy as np
from scipy import sparse


class Classifier:
    def fit(self, X, y):
        self.n_classes = len(np.unique(y))

    def predict_proba(self, X):
        return sparse.csr_matrix(np.ones((len(X), self.n_classes)))
