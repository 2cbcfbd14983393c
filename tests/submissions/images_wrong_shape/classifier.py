from sklearn.ensemble import RandomForestClassifier


class Classifier:
    def fit(self, X, y):
        self.clf = RandomForestClassifier(n_estimators=20, random_state=5).fit(X.reshape(len(X), -1), y)

    def predict_proba(self, X):
        return self.clf.predict(X.reshape(len(X), -1)) == "zero"
