from sklearn.svm import LinearSVC


def get_estimator():
    return LinearSVC()
