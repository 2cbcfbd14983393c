class Classifier:
    def fit(self, X, y):
        raise LookupError("\n  Resource stopwords not found.\n****")
