from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


class Classifier:
    def fit(self, X, y):
        self.clf = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        self.clf.fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
