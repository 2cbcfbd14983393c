from sklearn.feature_extraction.text import TfidfVectorizer


class FeatureExtractor:
    def fit(self, X, y):
        self.tfidf = TfidfVectorizer().fit(X["text"])

    def transform(self, X):
        return self.tfidf.transform(X["text"])
