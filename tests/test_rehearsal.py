"""The zygote's rehearsal leaves nothing of itself, and nothing that its children would stumble over."""

import json
import subprocess
import sys

from servers import ROOT

REHEARSE = """
import json, os, random, signal, sys, threading
import numpy as np
from runner import rehearsal, zygote

zygote.preload()
random.seed(1)
np.random.seed(1)

def state():
    modules = sorted(name for name in sys.modules if not name.startswith("runner."))
    states = random.getstate(), np.random.get_state()[1].tolist()
    return modules, sys.path[:], len(os.listdir("/dev/fd")), threading.active_count(), *states

before = state()
rehearsal.rehearse()
after = state()
if (child := os.fork()) == 0:
    signal.alarm(60)  # it would hang
    from sklearn.cluster import KMeans
    from sklearn.ensemble import HistGradientBoostingClassifier
    X, y = np.random.default_rng(0).normal(size=(20_000, 4)), np.arange(20_000) % 3
    HistGradientBoostingClassifier(max_iter=3).fit(X, y).predict_proba(X)
    KMeans(3, n_init=1).fit(X)
    os._exit(0)
status = os.waitpid(child, 0)[1]
print(json.dumps({"left": [a != b for a, b in zip(before, after)], "status": status}))
"""


def test_the_rehearsal_leaves_nothing_and_its_children_compute_in_parallel() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REHEARSE],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"left": 6 * [False], "status": 0}
