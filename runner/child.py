"""What runs in a task's own process, between the fork and the end.

It tells the slot how far it is by marks, one JSON object a line: {"mark": "started", "layers": [...]}, {"mark": PHASE,
...} when a phase is over, {"failed": KIND, "detail": ...}. After each it waits for a byte: while it sleeps, the
kernel's account of its CPU time is exact. Nobody trusts the marks: a submission's code runs here.
"""

import json
import os
import random
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from . import split as splitting
from .features import map_features, write_features
from .workflow import BadPredictions, Workflow, take_rows

PACKAGE = "submission"  # the modules of a submission are submission.classifier and so on
SEED = 0  # of the random numbers of numpy and random, the same in each fold
DETAIL_LENGTH = 500  # characters of a message that goes into the last sentence

Mark = Callable[..., None]


def mark_on(fd: int) -> Mark:
    """Return the function that writes marks to the slot."""

    def mark(**content: Any) -> None:
        os.write(fd, json.dumps(content).encode() + b"\n")
        os.read(fd, 1)

    return mark


def run(work: Callable[[Mark], None], mark: Mark, folder: Path) -> None:
    """Do the task's work and end this process; whatever happens in it is reported, nothing escapes."""
    try:
        work(mark)
        _flush()
        mark(mark="done")
    except BaseException as error:  # a submission may raise anything, SystemExit and KeyboardInterrupt included
        _report(error, mark, folder)
    finally:
        os._exit(0)  # no atexit hook, no thread of a submission holds us up


def _report(error: BaseException, mark: Mark, folder: Path) -> None:
    try:
        kind, detail = _describe(error)
        if kind == "exception":
            _print_traceback(error, folder)
        _flush()
        mark(failed=kind, detail=detail[:DETAIL_LENGTH])
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
    if isinstance(error, splitting.DataError):
        return "exception", str(error)
    [line, *_] = traceback.format_exception_only(error)[-1].splitlines() or [""]
    return "exception", line


def _print_traceback(error: BaseException, folder: Path) -> None:
    """Print the traceback from the first frame of the submission's own files on; without one, the exception alone."""
    shown = traceback.TracebackException.from_exception(error, lookup_lines=False)
    seen: set[int] = set()
    todo = [shown]
    while todo:
        part = todo.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        ours = [i for i, frame in enumerate(part.stack) if Path(frame.filename).is_relative_to(folder)]
        part.stack = traceback.StackSummary.from_list(part.stack[ours[0] :] if ours else [])
        todo += [part.__cause__, part.__context__, *(part.exceptions or [])]
    for line in shown.format():
        sys.stderr.write(line)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):  # it may be the submission's own by now
            stream.flush()


class OutOfRoom(Exception):
    """The result is larger than the limit."""


def _write(file: BinaryIO, data: bytes | memoryview) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:  # EFBIG of RLIMIT_FSIZE, ENOSPC
        raise OutOfRoom from error


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


def train_test_fold(job: dict[str, Any], folder: Path, inputs: list[int], result: BinaryIO, mark: Mark) -> None:
    """Train on the fold's rows and predict all training and all test rows.

    `inputs` are files: features of the training part, of the test part, the fold's row indices (int64), their labels
    (.npy). Predictions go to `result` as raw float64, training rows first; marks carry their shapes.
    """
    X_train, X_test = map_features(inputs[0]), map_features(inputs[1])
    with os.fdopen(inputs[2], "rb") as file:
        train_is = np.frombuffer(file.read(), dtype="<i8")
    with os.fdopen(inputs[3], "rb") as file:
        y = splitting.labels_in_memory(np.load(file, allow_pickle=False))
    for fd in inputs[:2]:
        os.close(fd)
    random.seed(SEED)
    np.random.seed(SEED)
    X_fold = take_rows(X_train, train_is)
    mark(mark="load")

    workflow = Workflow(import_submission(folder, job["workflow_elements"]))
    mark(mark="import")
    workflow.fit(X_fold, y)
    mark(mark="train")
    for phase, X in (("validation", X_train), ("test", X_test)):
        predictions = workflow.predict(X, job["classes"])
        _write(result, predictions.data)
        mark(mark=phase, shape=predictions.shape)


def split_raw_data(
    job: dict[str, Any], inputs: list[int], result: BinaryIO, outputs: list[BinaryIO], mark: Mark
) -> None:
    """Parse a data set and split it.

    `inputs` are its files, in the order of `job["files"]`. The row indices go to `result` as raw int64; `outputs` are
    files for the labels (.npy) and the features of the training and of the test part.
    """
    mark(mark="load")
    [csv] = [fd for fd, name in zip(inputs, job["files"], strict=True) if name.lower().endswith(".csv")]
    with os.fdopen(csv, "rb") as file:
        parts = splitting.split_csv(
            file, job["target_column"], job["workflow_elements"], job["held_out_test"], job["random_state"]
        )
    y_train, X_train, X_test = outputs
    _write(result, parts.split_is.data)
    np.save(y_train, parts.y_train, allow_pickle=False)
    y_train.flush()
    write_features(parts.X_train, X_train)
    write_features(parts.X_test, X_test)
    mark(mark="split", n_train=parts.n_train, n_test=len(parts.split_is) - parts.n_train)
