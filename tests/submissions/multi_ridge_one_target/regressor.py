from sklearn.linear_model import Ridge


class Regressor:
    def fit(self, X, y):
        self.reg = Ridge(alpha=0.1).fit(X, y)

    def predict(self, X):
        return self.reg.predict(X)[:, 0]
