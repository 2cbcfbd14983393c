"""What runs in a task's own process, between the fork and the end.

It tells the slot how far it is by marks, one JSON object a line: {"mark": "started", "layers": [...]}, {"mark": PHASE,
...} when a phase is over, {"failed": KIND, "detail": ...}. After each it waits for a byte: while it sleeps, the
kernel's account of its CPU time is exact. Nobody trusts the marks: a submission's code runs here.
"""

import json
import os
import random
import shutil
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from . import organiser
from .features import map_features, write_features
from .labels import DataError, labels_in_memory
from .posted import ORGANISER, PACKAGE, separator
from .split import plain_labels, split_table
from .tracebacks import print_traceback
from .trial import Trial, is_about_stand_in
from .workflow import BadPredictions, Workflow, n_rows, take_rows

SEED = 0  # of the random numbers of numpy and random, the same in each fold
DETAIL_LENGTH = 500  # characters of a message that goes into the last sentence
PIECE = 1_000_000  # bytes that are copied at once
NO_NETWORK = "a fold has no network"
TRIAL_FAILED = (
    "This was a trial of train_submission and test_submission with a submission that does nothing. Where a fold fails "
    "by the same error in the same line, and no line of its submission takes part, it is counted as a fault of the "
    "data set.\n"
)

Mark = Callable[..., None]


def mark_on(fd: int) -> Mark:
    """Return the function that writes marks to the slot."""

    def mark(**content: Any) -> None:
        os.write(fd, json.dumps(content).encode() + b"\n")
        os.read(fd, 1)

    return mark


def run(work: Callable[[Mark], None], mark: Mark, home: Path) -> None:
    """Do the task's work and end this process; whatever happens in it is reported, nothing escapes."""
    this = os.getpid()
    try:
        work(mark)
        _flush()
        mark(mark="done")
    except BaseException as error:  # a submission may raise anything, SystemExit and KeyboardInterrupt included
        end_unless(this)
        _report(error, mark, home)
    finally:
        os._exit(0)  # no atexit hook, no thread of a submission holds us up


def _report(error: BaseException, mark: Mark, home: Path) -> None:
    try:
        kind, detail = _describe(error)
        fault = None
        if kind == "exception" and not isinstance(error, DataError):
            with suppress(Exception):  # as where the submission has closed the log
                if print_traceback(error, home) == ORGANISER:
                    kind, fault = "outside", organiser.fault_of(error, home / ORGANISER)
        _flush()
        mark(failed=kind, detail=detail[:DETAIL_LENGTH], fault=fault)
    except BaseException:  # an exception that cannot even be printed
        _flush()
        mark(failed="exception", detail=type(error).__name__)


def _describe(error: BaseException) -> tuple[str, str]:
    if isinstance(error, BadPredictions):
        return "bad_predictions", str(error)
    if isinstance(error, OutOfRoom):
        return "output", ""
    if isinstance(error, MemoryError):
        return "memory", ""
    if isinstance(error, DataError):
        return "exception", str(error)
    lines = filter(str.strip, traceback.format_exception_only(error)[-1].splitlines())
    first = next(lines, "")
    if first.endswith(": "):  # the message begins with an empty line
        first += next(lines, "").strip()
    return "exception", f"{first} ({NO_NETWORK})" if _asked_for_network(error) else first


def _asked_for_network(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is that of somebody who looked for another machine."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, socket.gaierror):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):  # it may be the submission's own by now
            stream.flush()


class OutOfRoom(Exception):
    """The result is larger than the limit."""


def _write(file: BinaryIO, data: memoryview) -> None:
    file.write(data)
    file.flush()


def import_submission(folder: Path, names: list[str]) -> dict[str, ModuleType]:
    """Import the files NAME.py of a submission's folder, as modules of the package `submission`.

    The folder stands last in the search path, too: a submission's further files can be imported, and cannot hide a
    module that others need.
    """
    package = ModuleType(PACKAGE)
    package.__path__ = [str(folder)]
    package.__spec__ = ModuleSpec(PACKAGE, None, is_package=True)
    sys.modules[PACKAGE] = package
    sys.path += [str(folder.parent), str(folder)]
    return {name: _import(f"{PACKAGE}.{name}") for name in names}


def _import(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def train_test_fold(job: dict[str, Any], home: Path, inputs: list[int], result: BinaryIO, mark: Mark) -> None:
    """Train on the fold's rows and predict all training and all test rows.

    `inputs` are files: features of the training part, of the test part, the fold's row indices (.npy, int64), their
    labels (.npy). Predictions go to `result` as raw float64, training rows first; marks carry their shapes.
    """
    train_is, y = map(read_npy, inputs[2:])
    y = labels_in_memory(y)
    specific = None
    if job["custom"]:
        mark(mark="load")
        if job["specific"]:  # before the features, which may be objects of its classes
            specific = organiser.import_specific(home / ORGANISER)
        mark(mark="specific")
    X_train, X_test = map_features(inputs[0]), map_features(inputs[1])
    for fd in inputs[:2]:
        os.close(fd)
    if job["custom"]:
        organiser.check_numbers_of_rows(X_train, X_test, job["n_rows"])
    random.seed(SEED)
    np.random.seed(SEED)
    X_fold = take_rows(X_train, train_is)
    mark(mark="features" if job["custom"] else "load")

    modules = import_submission(home / PACKAGE, job["workflow_elements"])
    trains = specific is not None and organiser.trains(specific)
    workflow = organiser.OwnWorkflow(specific, PACKAGE) if trains else Workflow(modules)
    mark(mark="import")
    this = os.getpid()
    workflow.fit(X_fold, y)
    end_unless(this)
    mark(mark="train")
    for phase, X in (("validation", X_train), ("test", X_test)):
        predictions = workflow.predict(X, job["classes"])
        end_unless(this)
        if result.tell() + predictions.nbytes > job["limits"]["predictions"]:  # the kernel's limit may be larger
            raise OutOfRoom
        _write(result, predictions.data)
        mark(mark=phase, shape=predictions.shape)


def read_npy(fd: int) -> np.ndarray:
    """Return the array in the .npy file open as `fd`, and close it. A map of it would be one more descriptor."""
    with os.fdopen(fd, "rb") as file:
        return np.load(file, allow_pickle=False)


def end_unless(pid: int) -> None:
    """End any other process than this: where the submission forks and both return, one result is enough."""
    if os.getpid() != pid:
        os._exit(0)


def split_raw_data(
    job: dict[str, Any], inputs: list[int], result: BinaryIO, outputs: list[BinaryIO], mark: Mark
) -> None:
    """Parse a table and split its rows.

    `inputs` are the posted files, in the order of `job["files"]`. The row indices go to `result` as raw int64;
    `outputs` are files for the labels (.npy) and the features of the training and of the test part.
    """
    mark(mark="load")
    tables = [(fd, name) for fd, name in zip(inputs, job["files"], strict=True) if separator(name)]
    if len(tables) != 1:
        raise DataError(f"There are {len(tables)} tables (.csv, .csv.gz, .tsv, .tsv.gz) among the files, expected one.")
    [(table, name)] = tables
    with os.fdopen(table, "rb") as file:
        parts = split_table(
            file, name, job["target_column"], job["workflow_elements"], job["held_out_test"], job["random_state"]
        )
    _write(result, parts.split_is.data)
    _write_parts(parts.X_train, parts.y_train, parts.X_test, outputs)
    mark(mark="split", n_train=parts.n_train, n_test=len(parts.split_is) - parts.n_train)


def split_by_specific(job: dict[str, Any], home: Path, inputs: list[int], outputs: list[BinaryIO], mark: Mark) -> None:
    """Have the data set's own file make both parts; files as for `split_raw_data`.

    The mark "split" says whether folds need the data set's Python files, the mark "trial" how its functions for folds
    fail with a submission that does nothing, or the shapes of its predictions.
    """
    folder = home / ORGANISER
    for fd, name in zip(inputs, job["files"], strict=True):
        with os.fdopen(fd, "rb") as posted, (folder / name).open("xb") as copy:
            shutil.copyfileobj(posted, copy, PIECE)
    os.chdir(folder)
    random.seed(SEED)
    np.random.seed(SEED)
    mark(mark="load")
    specific = organiser.import_specific(folder)
    trains = organiser.trains(specific)
    if not trains:
        organiser.check_workflow(job["workflow_elements"])
    mark(mark="specific")
    specific.prepare_data(str(folder))
    mark(mark="prepare_data")
    X_train, y_train = organiser.get_data(specific.get_train_data, folder)
    y_train = plain_labels(y_train, different_kinds=trains)
    organiser.check_rows(X_train, len(y_train))
    mark(mark="get_train_data")
    X_test, _y_test = organiser.get_data(specific.get_test_data, folder)
    organiser.check_rows(X_test)
    mark(mark="get_test_data")
    modules = _write_parts(X_train, y_train, X_test, outputs)
    needed = trains or organiser.is_needed(folder, modules)
    mark(mark="split", n_train=len(y_train), n_test=n_rows(X_test), needed=needed)
    if needed:  # what fails from here on would fail in each fold
        specific = organiser.import_alone(folder)
        X_train, X_test = (map_features(file.fileno()) for file in outputs[1:])
    trial = {}
    if trains:
        tried = Trial(specific, folder, job["workflow_elements"])
        trial = _tried(tried, X_train, labels_in_memory(y_train), X_test, home)
    mark(mark="trial", **trial)


def _tried(trial: Trial, X_train: Any, y: np.ndarray, X_test: Any, home: Path) -> dict[str, Any]:
    """Return the shapes of the trial's predictions, or the fault that each of its attempts meets."""
    faults, last = set(), None
    for _ in trial.attempts():
        try:
            shapes = trial.run(X_train, y, X_test)
            return dict(zip(("train", "test"), shapes or (), strict=False))
        except BaseException as error:  # whatever the file raises, SystemExit included
            if trial.is_certain(error):
                raise
            last = error
            faults.add(None if is_about_stand_in(error) else organiser.fault_of(error, home / ORGANISER))
    [fault, *others] = faults
    if others or fault is None:  # it depends on what a submission is and returns
        return {}
    print_traceback(last, home)
    sys.stderr.write(TRIAL_FAILED)
    return {"fault": fault}


def _write_parts(X_train: Any, y_train: np.ndarray, X_test: Any, outputs: list[BinaryIO]) -> set[str]:
    """Write labels and features; return the modules that reading the features imports."""
    y_file, X_train_file, X_test_file = outputs
    np.save(y_file, y_train, allow_pickle=False)
    y_file.flush()
    return write_features(X_train, X_train_file) | write_features(X_test, X_test_file)
