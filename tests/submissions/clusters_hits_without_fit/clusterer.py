class Clusterer:
    def distances(self, X):
        return X
