class Classifier:
    def fit(X, y):
        pass
