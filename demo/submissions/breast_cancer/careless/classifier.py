from sklearn.tree import DecisionTreeClassifier


class Classifier:
    """Fails, as its author forgot an import: what does datarun say?"""

    def fit(self, X, y):
        self.clf = DecisionTreeClassifier().fit(np.log1p(X), y)

    def predict_proba(self, X):
        return self.clf.predict_proba(np.log1p(X))
