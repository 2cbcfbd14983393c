class FeatureExtractor:
    def fit(self, X, y):
        self.columns = list(X.columns)
        return self

    def transform(self, X):
        return X[self.columns].fillna(0).to_numpy()
