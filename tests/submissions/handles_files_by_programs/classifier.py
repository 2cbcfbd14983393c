import getpass
import logging
import os
import subprocess
from pathlib import Path

import numpy as np

COMMANDS = """
mkdir a && touch a/new && touch a/new
cp -a a b && cp -p a/new c && install -m 644 c d && mv d e
tar czf a.tgz a && mkdir f && tar xzf a.tgz -C f
echo x > /dev/stdout && echo x > /dev/stderr
for i in 1 2 3 4 5 6 7 8; do ln large large-$i; done
"""


class Classifier:
    def fit(self, X, y):
        Path("large").write_bytes(bytes(5_000_000))
        for command in COMMANDS.strip().splitlines():
            done = subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            if done.returncode and "/dev/std" not in command:
                print(command, done)
        subprocess.run("echo told > /dev/stderr", shell=True, check=True)
        logging.FileHandler("/dev/stderr").close()
        with open("c") as file:
            os.utime(file.fileno())
        getpass.getuser()

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
