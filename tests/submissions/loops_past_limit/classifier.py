class Classifier:
    def fit(self, X, y):
        sum(iter(int, 1))
