class FeatureExtractor:
    """X is the data frame with the names of its columns."""

    def fit(self, X, y):
        pass

    def transform(self, X):
        return X.assign(
            petal=X["petal length (cm)"] / X["petal width (cm)"],
            sepal=X["sepal length (cm)"] / X["sepal width (cm)"],
        ).to_numpy()
