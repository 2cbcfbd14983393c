import only_here
from sklearn.linear_model import LogisticRegression


class Classifier:
    def fit(self, X, y):
        print("only_here is at", only_here.__file__)
        self.clf = LogisticRegression(max_iter=only_here.MAX_ITER).fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
