"""Packages that submissions import besides ours, in RUNNER_PYTHON: `make test ARGS="-m slow"` installs each."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rows import SUBMISSIONS
from workers import Running, final, iris_fold

import schemas
from models import State
from servers import ROOT

OURS = ("numpy", "pandas", "scikit-learn", "scipy", "psutil")
# The same fold without datarun: prints the predictions of all training rows.
ALONE = """
import json
import sys
import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

sys.path.insert(0, sys.argv[1])
import classifier

X, y = load_iris(return_X_y=True)
train_part, _ = train_test_split(np.arange(len(y)), test_size=0.2, random_state=42)
clf = classifier.Classifier()
clf.fit(X[train_part[:90]], y[train_part[:90]])
print(json.dumps(clf.predict_proba(X[train_part]).astype(float).ravel().tolist()))
"""


def environment_with(package: str, folder: Path) -> Path:
    """Make a virtual environment as the README says, with one package more; return its interpreter."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    ours = [line.partition("#")[0].strip() for line in lines if line.partition("==")[0] in OURS]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *ours, package], check=True)
    return python


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "submission"),
    [("xgboost", "boosts_with_xgboost"), ("lightgbm", "boosts_with_lightgbm"), ("torch", "learns_with_torch")],
)
def test_a_package_works_within_the_isolation(
    start: Callable[..., Running], tmp_path: Path, package: str, submission: str
) -> None:
    python = environment_with(package, tmp_path / package)
    start(RUNNER_PYTHON=str(python), WORKER_CONCURRENCY=2)
    fold = final(iris_fold(submission))
    assert (fold.state, fold.isolation) == (State.TESTED, "strong"), fold.log_messages
    alone = [python, "-c", ALONE, SUBMISSIONS / submission]
    one_thread = {"OMP_NUM_THREADS": "1"}
    expected = subprocess.run(alone, check=True, capture_output=True, text=True, env=one_thread).stdout
    predictions = schemas.unpack_predictions(fold.predictions.full_train_predictions)
    np.testing.assert_array_equal(predictions, json.loads(expected))
