class Clusterer:
    def fit(self, X, y):
        pass

    def distances(self, X):
        return X[1:]
