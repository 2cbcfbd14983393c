from sklearn.linear_model import LogisticRegression


class Calibrator:
    """X is the classifier's probabilities for rows that it was not fitted on."""

    def fit(self, X, y):
        self.clf = LogisticRegression(C=10).fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
