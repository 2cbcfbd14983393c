import numpy as np
import xgboost


class Classifier:
    def fit(self, X, y):
        self.clf = xgboost.XGBClassifier(n_estimators=20).fit(X, np.unique(y, return_inverse=True)[1])

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
