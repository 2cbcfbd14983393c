class Lazy:
    def __array__(self, *args, **kwargs):
        raise ValueError("nothing was computed")


class Classifier:
    def fit(self, X, y):
        pass

    def predict_proba(self, X):
        return Lazy()
