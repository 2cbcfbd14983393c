"""The demo: what a challenge site does with datarun, on four small data sets, against a scratch instance.

It starts web and worker on a free port with a folder of their own, posts data sets, splits, submissions and folds by
the client in post_api.py, waits, and scores the predictions. The submissions are in demo/submissions. At the end
nothing is left, running or on disk. The exit status is 0 only if every fold ended as it should.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import requests
from sklearn import datasets
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

import post_api
import queue_server
from config import ROOT, Config

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
HELD_OUT_TEST = 0.2  # fraction of the rows
RANDOM_STATE = 42
N_FOLDS = 5
START_TIMEOUT = 60  # seconds
STOP_TIMEOUT = 30  # seconds
FOLDS_TIMEOUT = 600  # seconds
LOG_SHOWN = 5000  # characters of each log where the demo fails
PAGE_WIDTH = 120  # columns of the table where there is no terminal
LEAST_IMPORTANT = ("validate s", "test s", "priority", "train s", "MB", "data", "validation", "cause", "test")


@dataclass(frozen=True)
class Challenge:
    """A data set of scikit-learn, what its submissions consist of, and what we expect of them."""

    name: str
    load: Callable[..., Any]
    workflow_elements: str
    submissions: tuple[str, ...]  # folders below demo/submissions/<name>
    least_score: float  # of each fold: accuracy of classifiers, R2 of regressors

    @property
    def is_regression(self) -> bool:
        return "regressor" in self.workflow_elements


CHALLENGES = [
    Challenge("iris", datasets.load_iris, "classifier", ("forest", "logistic"), 0.8),
    Challenge("iris_calibrated", datasets.load_iris, "feature_extractor, classifier, calibrator", ("ratios",), 0.8),
    Challenge("breast_cancer", datasets.load_breast_cancer, "classifier", ("boosting", "logistic", "careless"), 0.85),
    Challenge("diabetes", datasets.load_diabetes, "regressor", ("ridge", "forest"), 0.1),
]
EXPECTED_CAUSES = {"careless": "train_error"}  # of the submissions that fail; the others should not


@dataclass
class Fold:
    """A fold as posted, and how it went."""

    challenge: Challenge
    submission: str
    priority: str
    y_validation: np.ndarray  # labels of the fold's validation rows, in the order of validation_is
    validation_is: np.ndarray  # rows of the training part
    y_test: np.ndarray  # labels of the held-out rows
    classes: np.ndarray | None
    answer: dict[str, Any] | None = None
    validation_score: float | None = None
    test_score: float | None = None

    def score(self, answer: dict[str, Any]) -> None:
        """Take the service's answer, and compute the scores from its predictions."""
        self.answer = answer
        if answer["state"] != "TESTED":
            return
        n_columns = None if self.classes is None else len(self.classes)
        y_train = post_api.decode_predictions(answer["full_train_predictions"], n_columns)
        y_test = post_api.decode_predictions(answer["test_predictions"], n_columns)
        self.validation_score = self._compare(self.y_validation, y_train[self.validation_is])
        self.test_score = self._compare(self.y_test, y_test)

    def _compare(self, y: np.ndarray, predictions: np.ndarray) -> float:
        if self.classes is None:
            return r2_score(y, predictions)
        return accuracy_score(y, self.classes[predictions.argmax(axis=1)])

    @property
    def fault(self) -> str | None:
        """What is not as it should be, if anything."""
        expected = EXPECTED_CAUSES.get(self.submission)
        if expected is None and self.answer["state"] != "TESTED":
            return f"ended in {self.answer['state']}: {self.answer['cause']}\n{self.answer['log_messages']}"
        if expected is not None and self.answer["cause"] != expected:
            return f"should have failed with {expected}, but: {self.answer['state']} {self.answer['cause'] or ''}"
        if expected is None and min(self.validation_score, self.test_score) < self.challenge.least_score:
            return f"scores below {self.challenge.least_score}"
        return None


def main() -> int:
    sys.stdout.reconfigure(line_buffering=True)
    for number in INTERRUPTS:
        signal.signal(number, interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="datarun-demo-") as folder:
            folds = run(Path(folder))
    except KeyboardInterrupt as interruption:
        print("\nInterrupted; the scratch instance is gone.")
        return 128 + interruption.args[0]
    print_table(folds)
    return print_conclusion(folds)


def interrupt(number: int, _: object) -> None:
    """Raise KeyboardInterrupt, once: a second one would stop the tidying up."""
    ignore_interrupts()
    raise KeyboardInterrupt(number)


def ignore_interrupts() -> None:
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


def run(folder: Path) -> dict[int, Fold]:
    """Run all challenges on a scratch instance in this folder; return the folds by id."""
    print("Starting a scratch instance of datarun ...")
    with scratch_instance(folder / "home") as user:
        folds: dict[int, Fold] = {}
        for challenge in CHALLENGES:
            post_challenge(user, challenge, folder, folds)
        print(f"Waiting for {len(folds)} folds ...")
        post_api.wait_for_folds(*user, folds, timeout=FOLDS_TIMEOUT, interval=0.2)
        for answer in checked(post_api.get_prediction_list(*user, folds)):
            folds[answer["databoard_sf_id"]].score(answer)
        ignore_interrupts()
    return folds


# ---- what a challenge site does


def post_challenge(user: tuple[str, str, str], challenge: Challenge, folder: Path, folds: dict[int, Fold]) -> None:
    """Post a data set, its split and its submissions with all their folds; add these to `folds`."""
    csv = folder / f"{challenge.name}.csv"
    frame = load_frame(challenge)
    frame.to_csv(csv, index=False)
    raw_data = checked(post_api.post_data(*user, challenge.name, "target", challenge.workflow_elements, csv))
    checked(post_api.post_split(*user, HELD_OUT_TEST, raw_data["id"], RANDOM_STATE))

    # The same rows as the service's: fold indices count from the first row of the training part.
    y = frame["target"].to_numpy()
    train_is, test_is = train_test_split(np.arange(len(y)), test_size=HELD_OUT_TEST, random_state=RANDOM_STATE)
    y_train, y_test = y[train_is], y[test_is]
    cv = KFold(N_FOLDS) if challenge.is_regression else StratifiedKFold(N_FOLDS)
    classes = None if challenge.is_regression else np.unique(y_train)

    for submission in challenge.submissions:
        files = sorted((ROOT / "demo" / "submissions" / challenge.name / submission).glob("*.py"))
        first_id = len(folds) + 1  # ids are ours to choose: a submission gets that of its first fold
        for k, (fold_train_is, validation_is) in enumerate(cv.split(y_train, y_train)):
            priority = "H" if k == 0 else "L"  # a first impression of each submission comes early
            checked(
                post_api.post_submission_fold(
                    *user,
                    sub_id=first_id,
                    sub_fold_id=first_id + k,
                    train_is=fold_train_is,
                    test_is=validation_is,
                    priority=priority,
                    raw_data_id=raw_data["id"] if k == 0 else None,
                    list_submission_files=files if k == 0 else None,
                )
            )
            folds[first_id + k] = Fold(
                challenge, submission, priority, y_train[validation_is], validation_is, y_test, classes
            )
    print(f"Posted {challenge.name}: {', '.join(challenge.submissions)}, {N_FOLDS} folds each")


def load_frame(challenge: Challenge) -> pd.DataFrame:
    """Return a data set with its labels, by their names, in the column `target`."""
    bunch = challenge.load(as_frame=True)
    if challenge.is_regression:
        return bunch.frame
    return bunch.frame.assign(target=bunch.target_names[bunch.target])


def checked(response: requests.Response) -> Any:
    """Return the JSON of an answer; raise HTTPError with what it says where the request was refused."""
    if not response.ok:
        raise requests.HTTPError(f"{response.request.method} {response.url}: {response.status_code} {response.text}")
    return response.json()


# ---- a scratch instance


@contextmanager
def scratch_instance(home: Path) -> Iterator[tuple[str, str, str]]:
    """Run web, worker and the embedded queue with all they keep in `home`; give address, user name and password."""
    home.mkdir()
    password = secrets.token_urlsafe()
    settings = {
        **{f.name: "" for f in fields(Config)},  # the default, whatever the settings of an instance in use are
        "DATARUN_HOME": str(home),
        "DATARUN_USERNAME": "demo",
        "DATARUN_PASSWORD": password,
        "GRACE_PERIOD": "1",
    }
    options = {"cwd": ROOT, "env": {**os.environ, **settings}, "stdin": subprocess.DEVNULL}
    python = sys.executable
    with ExitStack() as stack:
        stack.callback(queue_server.stop, home)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = "http://{}:{}".format(*listener.getsockname())
        try:
            upgrade = [python, "-m", "flask", "--app", "app", "db", "upgrade"]
            with running(upgrade, home / "release.log", **options) as release:
                release.wait()
            web = [python, "web.py", "--bind", f"fd://{listener.fileno()}"]
            worker = [python, "worker.py"]
            processes = [
                stack.enter_context(running(web, home / "web.log", pass_fds=[listener.fileno()], **options)),
                stack.enter_context(running(worker, home / "worker.log", **options)),
            ]
            wait_until_healthy(url, processes)
            yield url, "demo", password
        except (TimeoutError, requests.RequestException) as error:
            logs = [f"{log.name}:\n{log.read_text()[-LOG_SHOWN:]}" for log in sorted(home.glob("*.log"))]
            sys.exit("\n\n".join([str(error), *logs]))


@contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen]:
    """Run a process in a session of its own, since Ctrl-C at the terminal is for us: we end it in our order."""
    with ExitStack() as stack:
        with interrupts_delayed():
            output = stack.enter_context(log.open("wb"))
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **options)
            stack.callback(stop, process)
        yield process


@contextmanager
def interrupts_delayed() -> Iterator[None]:
    """Let an interrupt wait for the end of the block: between a process's start and the note of it, say."""
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in INTERRUPTS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_healthy(url: str, processes: list[subprocess.Popen]) -> None:
    """Wait until the web answers; raise TimeoutError where it does not, or where a process has ended."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        try:
            if requests.get(f"{url}/healthz", timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.05)
    raise TimeoutError("The scratch instance does not answer.")


# ---- what the demo shows


def print_table(folds: dict[int, Fold]) -> None:
    """Print a row for each fold, with as many columns as the terminal is wide."""
    table = pd.DataFrame([get_row(i, fold) for i, fold in folds.items()])
    page_width = shutil.get_terminal_size((PAGE_WIDTH, 24)).columns
    for n_hidden in range(len(LEAST_IMPORTANT) + 1):
        hidden = list(LEAST_IMPORTANT[:n_hidden])
        text = table.drop(columns=hidden).to_string(index=False, na_rep="", float_format="{:.3f}".format)
        if len(text.splitlines()[0]) <= page_width:
            break
    print(f"\n{text}\n")
    if hidden:
        print(f"A wider terminal also shows: {', '.join(hidden)}.")


def get_row(i: int, fold: Fold) -> dict[str, Any]:
    answer = fold.answer
    return {
        "fold": i,
        "data": fold.challenge.name,
        "submission": fold.submission,
        "priority": fold.priority,
        "state": answer["state"],
        "cause": answer["cause"] or "",
        "train s": answer["train_time"],
        "validate s": answer["validation_time"],
        "test s": answer["test_time"],
        "MB": round(max(answer["train_memory"], answer["test_memory"]) / 1000),
        "validation": fold.validation_score,
        "test": fold.test_score,
    }


def print_conclusion(folds: dict[int, Fold]) -> int:
    """Say whether all was as it should be; return the exit status."""
    failed = [fold for fold in folds.values() if fold.submission in EXPECTED_CAUSES]
    print("Scores: accuracy for classes, R2 for numbers.")
    if failed:
        print(f"What the author of {failed[0].submission} is told:\n")
        print(textwrap.indent(failed[0].answer["log_messages"] or "", "    "))
    faults = {i: fold.fault for i, fold in folds.items() if fold.fault}
    for i, fault in faults.items():
        print(f"Fold {i} ({folds[i].challenge.name}, {folds[i].submission}) {fault}")
    if not faults:
        print(f"All {len(folds)} folds ended as expected: {len(failed)} in ERROR, the others TESTED.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
