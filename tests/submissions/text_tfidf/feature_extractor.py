from sklearn.feature_extraction.text import TfidfVectorizer


class FeatureExtractor(TfidfVectorizer):
    def __init__(self):
        super().__init__(analyzer="word", min_df=2, stop_words="english")

    def fit(self, X_df, y=None):
        super().fit(X_df.text)
        return self

    def transform(self, X_df):
        return super().transform(X_df.text)
