import time
from pathlib import Path

SECRET = "secret-of-a-neighbour-" + "1234"


class Classifier:
    def fit(self, X, y):
        Path.home().joinpath("model").write_text(SECRET)
        Path("/dev/shm/left-by-a-neighbour").write_text(SECRET)
        print("ready", flush=True)
        time.sleep(60)
