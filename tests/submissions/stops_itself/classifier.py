import os
import signal


class Classifier:
    def fit(self, X, y):
        os.kill(os.getpid(), signal.SIGSTOP)
