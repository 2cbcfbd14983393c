class FeatureExtractor:
    def fit(self, X, y):
        pass

    def transform(self, X):
        return X["no such column"].to_frame()
