from sklearn.linear_model import RidgeCV


class Regressor:
    def fit(self, X, y):
        self.reg = RidgeCV(alphas=[0.01, 0.1, 1, 10]).fit(X, y)

    def predict(self, X):
        return self.reg.predict(X)
