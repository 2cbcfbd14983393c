from sklearn.linear_model import LogisticRegression


class Classifier(LogisticRegression):
    """A scikit-learn estimator is a classifier as it is."""

    def __init__(self):
        super().__init__(max_iter=1000)
