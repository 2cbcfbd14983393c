"""Small folds that the zygote trains and tests itself, so that no real one does anything for the first time.

What Python and the libraries set up at a first use (imports within functions, caches, specialized bytecode: PEP 659)
is then part of the memory that all folds share: a fold of 20 ms of training takes a sixth less of the processor.
Nothing but time depends on it.

It computes in one thread: after one parallel region of OpenMP, HistGradientBoosting and KMeans would hang in what the
zygote forks. So the submission beside uses forests and isotonic regression, which know no OpenMP.
"""

import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import child, wire
from ..features import write_features
from ..posted import PACKAGE
from ..task import MB

TIMES = 3  # what is set up at a second or third use is there, too
PLAIN = ["classifier"]
WHOLE = ["feature_extractor", "classifier", "calibrator"]
N_ROWS, N_COLUMNS, N_CLASSES = 60, 4, 3


def rehearse() -> None:
    """Train and test in this process; leave no module, path or random state of it."""
    path, state, numpy_state = sys.path[:], random.getstate(), np.random.get_state()
    try:
        for elements in TIMES * [PLAIN, WHOLE]:
            _run(elements)
            _forget(path)
    finally:
        _forget(path)
        random.setstate(state)
        np.random.set_state(numpy_state)


def _forget(path: list[str]) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    sys.path[:] = path


def _run(elements: list[str]) -> None:
    """Train and test a submission of these elements, as a child does."""
    numbers = np.random.default_rng(0).normal(size=(N_ROWS, N_COLUMNS))
    X: Any = numbers if elements == PLAIN else pd.DataFrame(numbers, columns=list("abcd"))
    job = {
        "workflow_elements": elements,
        "custom": False,
        "specific": [],
        "classes": list(range(N_CLASSES)),
        "limits": {"predictions": MB},
    }
    X_train, X_test, train_is, y, result = files = [wire.anonymous_file() for _ in range(5)]
    write_features(X, X_train)
    write_features(X, X_test)
    np.save(train_is, np.arange(N_ROWS), allow_pickle=False)
    np.save(y, np.arange(N_ROWS) % N_CLASSES, allow_pickle=False)
    for file in files:
        file.seek(0)
    inputs = [os.dup(file.fileno()) for file in files[:-1]]  # they are closed there
    child.train_test_fold(job, Path(__file__).parent, inputs, result, lambda **_mark: None)
    for file in files:
        file.close()
