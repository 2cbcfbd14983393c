class Classifier:
    def fit(self, X, y):
        return self.fit(X, y)
