"""What the runner is asked to do, and every way in which that can end. Failure of a submission is a value here."""

import math
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MB = 1_000_000  # bytes

# Phases of a fold, in order, with the cause of an exception in each. Before `import`, no code of a submission has run;
# `specific` and `features` are left out where the data set has no Python file of its own: to read what one made may run
# its code.
PHASES = {
    "load": "infrastructure",
    "specific": "data_error",
    "features": "data_error",
    "import": "import_error",
    "train": "train_error",
    "validation": "validation_error",
    "test": "test_error",
}
DOING = {
    "load": "loading the data",
    "specific": "importing specific.py, the data set's own file",
    "features": "loading the features that specific.py made",
    "import": "importing the submission",
    "train": "training",
    "validation": "predicting the training rows",
    "test": "predicting the test rows",
    "split": "splitting the data",
    "prepare_data": "running prepare_data",
    "get_train_data": "running get_train_data",
    "get_test_data": "running get_test_data",
    "trial": "trying specific.py as a fold does, without the data's other files",
}


@dataclass(frozen=True)
class Limits:
    """What a task may use; at each limit its processes are killed."""

    wall_time: float  # s
    memory: int  # bytes, of all processes together, on top of the libraries and features that each fold starts with
    processes: int  # and threads
    log: int  # bytes printed
    log_kept: int  # bytes of that, head and tail
    disk: int  # bytes in files
    predictions: int  # bytes
    cpu_time: float = math.inf  # s, of all processes together


@dataclass(frozen=True)
class FoldTask:
    """Train and test one submission on one fold."""

    name: str
    workflow_elements: list[str]
    submission: Path  # folder of its files
    X_train: Path  # features file, all rows of the training part
    X_test: Path  # features file, the held-out rows
    n_train: int
    n_test: int
    train_is: np.ndarray  # int64, rows of X_train
    y: np.ndarray  # labels of those rows, and no others
    classes: list | None  # of the whole training part, sorted, a list for each of several targets; None for regression
    limits: Limits
    custom: bool = False  # whether the data set's own Python file made the features, and said how many rows there are
    specific: Path | None = None  # folder of the data set's own Python files, where the fold needs them
    specific_fault: str | None = None  # of the data set's own file, as the split found it; "": any of its faults


@dataclass(frozen=True)
class SplitTask:
    """Parse a data set and split its rows, or have its own Python file make both parts: see organiser.py."""

    name: str
    files: Mapping[str, BinaryIO]
    target_column: str
    workflow_elements: list[str]
    held_out_test: float | None  # fraction of the rows; None where the data's own Python file splits them
    random_state: int | None
    limits: Limits


@dataclass
class Usage:
    """What a phase took, measured from outside: wall and CPU seconds, peak resident memory in bytes."""

    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class End:
    """How a task's processes ended, as the slot saw it.

    `kind` is one of: done, exception, outside (one in the data set's own file, without a line of the submission),
    memory, bad_predictions, output (the child said so), exit (no result; `detail` is the exit status, negative for a
    signal), timeout, memory_limit, cpu_limit, log_limit, disk_limit, file_limit (killed by the slot; `detail` is the
    limit's value), stopped (the worker asked; `detail` is its reason). Of `outside`, `fault` says which error it was
    and in which line of the data set's own files.
    """

    kind: str
    phase: str
    detail: Any = None
    fault: str | None = None


@dataclass(frozen=True)
class Measures:
    """Times and memory of a fold, as its row keeps them: seconds and kB; 0.0 for what was not reached."""

    train_time: float = 0.0
    validation_time: float = 0.0
    test_time: float = 0.0
    train_cpu_time: float = 0.0
    test_cpu_time: float = 0.0
    train_memory: float = 0.0
    test_memory: float = 0.0

    @classmethod
    def of(cls, usages: Mapping[str, Usage]) -> "Measures":
        train, validation, test = (usages.get(phase, Usage()) for phase in ("train", "validation", "test"))
        return cls(
            train.wall, validation.wall, test.wall, train.cpu, test.cpu, train.memory / 1024, test.memory / 1024
        )  # fmt: skip

    def asdict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """A phase is over: the fold is now TRAINED or VALIDATED."""

    state: str
    measures: Measures


@dataclass(frozen=True)
class Log:
    """All that is kept of what the task has printed so far."""

    text: str


@dataclass(frozen=True)
class FoldOutcome:
    """A fold's end: state TESTED with both predictions, or state ERROR with a cause."""

    state: str
    cause: str | None
    log_messages: str
    measures: Measures = field(default_factory=Measures)
    isolation: str = "none"
    full_train_predictions: np.ndarray | None = None  # float64, (n_train,) or (n_train, k)
    test_predictions: np.ndarray | None = None  # float64, (n_test,) or (n_test, k)


@dataclass(frozen=True)
class SplitOutcome:
    """A split's end; `cause` is None where it succeeded, and then everything else is there."""

    cause: str | None
    log_messages: str
    n_train: int = 0
    n_test: int = 0
    classes: list | None = None  # labels of the training part, sorted, a list for each of several targets; or None
    split_is: np.ndarray | None = None  # int64: n_train rows of the training part, then n_test; none for custom data
    y_train: np.ndarray | None = None  # labels of the training part: numbers, booleans or text, no objects
    X_train: BinaryIO | None = None  # features file
    X_test: BinaryIO | None = None  # features file
    specific_needed: bool = False  # folds need the data set's Python files: to train, or to read the features
    specific_fault: str | None = None  # of train_submission or test_submission, with a submission that does nothing


@dataclass(frozen=True)
class Finished:
    """The task is over: its processes and its folder are gone, or what has ended well is stopped, and goes now.

    The next task on the slot begins when all of it is gone.
    """

    outcome: FoldOutcome | SplitOutcome


Event = Progress | Log | Finished


class SlotLost(Exception):
    """The slot's process is gone; what it ran ended with it, without a result."""


def conclude(end: End) -> tuple[str | None, str]:
    """Return the cause and the sentence for the submitter that closes the log ('' where all went well)."""
    doing = DOING[end.phase]
    match end.kind:
        case "done":
            return None, ""
        case "exception" | "outside":
            return PHASES.get(end.phase, "data_error"), f"Failed while {doing}: {end.detail}"
        case "memory":
            return ("memory", f"Out of memory while {doing}: the limit is {_mb(end.detail)}.")
        case "memory_limit":
            return ("memory", f"Killed at {_mb(end.detail)} of memory, the limit, while {doing}.")
        case "timeout":
            return ("timeout", f"Killed after {end.detail:g} s, the wall-clock limit, while {doing}.")
        case "cpu_limit":
            return ("timeout", f"Killed after {end.detail:g} s of CPU time, the limit, while {doing}.")
        case "log_limit":
            return ("output", f"Killed after {_mb(end.detail)} of output, the limit, while {doing}.")
        case "disk_limit":
            return ("output", f"Killed at {_mb(end.detail)} of files, the limit, while {doing}.")
        case "file_limit":
            return ("output", f"Killed at {end.detail} files, the limit, while {doing}.")
        case "output":
            return ("output", f"The predictions do not fit into {_mb(end.detail)}, the limit, while {doing}.")
        case "bad_predictions":
            return "bad_predictions", str(end.detail).strip() or "The predictions are no array of numbers."
        case "stopped":
            return end.detail, f"Stopped while {doing}."
        case "exit":
            cause = "infrastructure" if end.phase == "load" else "crashed"  # the submission has not been seen yet
            return cause, f"Ended {_status(end.detail)} without a result, while {doing}."
    raise ValueError(end.kind)


def _mb(size: int) -> str:
    return f"{size / MB:g} MB"


def _status(status: int) -> str:
    if status >= 0:
        return f"with exit status {status}"
    with suppress(ValueError):  # one of those without a name
        return f"by signal {-status} ({signal.Signals(-status).name})"
    return f"by signal {-status}"
