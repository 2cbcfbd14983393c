class Classifier:
    def fit(self, X, y):
        raise KeyboardInterrupt
