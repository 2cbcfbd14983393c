import pandas as pd


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return pd.DataFrame([[0.5] * 3] * len(X), columns=list("abc"))
