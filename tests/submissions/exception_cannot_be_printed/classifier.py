class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


class Classifier:
    def fit(self, X, y):
        raise Unprintable
