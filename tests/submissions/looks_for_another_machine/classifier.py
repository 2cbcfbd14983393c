from urllib.request import urlopen


class Classifier:
    def fit(self, X, y):
        try:
            urlopen("http://example.org/")
        except OSError as error:
            raise RuntimeError("no data") from error
