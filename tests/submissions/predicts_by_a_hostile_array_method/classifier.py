class Array:
    def __array__(self, *args, **kwargs):
        return "not an array"


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return Array()
