"""The worker's side: start the zygote of this host, get slots from it, run tasks on them, check what comes back."""

import errno
import fcntl
import math
import os
import select
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from . import sandbox, wire
from .elements import PROBABILITIES, VALUES, predicts
from .labels import MOST_CLASSES, classes_of, may_be_classes, n_columns, of_different_kinds, read_labels
from .posted import stored_names
from .task import (
    End,
    Event,
    Finished,
    FoldOutcome,
    FoldTask,
    Log,
    Measures,
    Progress,
    SlotLost,
    SplitOutcome,
    SplitTask,
    Usage,
    conclude,
)

# The libraries' own settings for the processor at hand pass through to the zygote; thread counts are set below.
NUMERIC_PREFIXES = ("OPENBLAS_", "OMP_", "MKL_", "BLIS_", "NUMEXPR_")
THREAD_COUNTS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "LOKY_MAX_CPU_COUNT",
)  # fmt: skip
NEEDED = ("psutil", "numpy", "pandas", "sklearn")  # by the runner, in the interpreter that runs submissions
OVERSEE = """
import sys, types
sys.modules["runner"] = types.ModuleType("runner")  # with all its modules, and without the imports of __init__
sys.modules["runner"].__path__ = sys.argv[1:2]
from runner.sandbox.oversight import become
become(sys.argv[2:])
"""
OVERSEES = {"network", "capabilities"}  # emulated platforms without these have no user namespaces
HANDOVER = 20.0  # seconds in which a supervisor takes a message, or has sent all of one
MOST_ROWS = 2**31 - 1  # of each part of a data set: what the database's columns of whole numbers hold
OF_THE_DATA_SET = "This is a fault of the data set's own file: the submission need not change."
ALWAYS = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "LOGNAME": "datarun",  # the slots' users have no name, which getpass and others look for
    "PYTHONHASHSEED": "0",  # sets of strings have the same order in each fold
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Zygote:
    """The process that forks slots. One per host.

    Parameters
    ----------
    python : path of the interpreter that runs submissions; it needs numpy, pandas, scikit-learn and psutil.
    scratch : folder for the files of running tasks; its own, and on a disk with room for them.
    threads : of BLAS, OpenMP and joblib, in each fold.
    environ : the environment from which the numeric libraries' own settings are taken.
    first_uid : as root, slot n (0, 1, ... of those alive) runs submissions under the users and groups `first_uid + 2 n`
        and `first_uid + 2 n + 1`, in turn.
    layers : the restrictions to apply, by their names in `sandbox.LAYERS`; None: all that the system allows.
    secrets : files and folders of the service, which no fold may read; the self-test tries those that are there.

    Attributes, once started
    ------------------------
    isolation : "strong", "partial" or "none", as the self-test found it: see selftest.py.
    versions : of Python, numpy, pandas and scikit-learn, by these names ("python", "scikit-learn").
    missing : a sentence that says what is missing for more, and what would give it; "" for nothing.
    """

    isolation = "none"
    missing = ""

    def __init__(
        self,
        python: str,
        scratch: Path,
        threads: int = 1,
        environ: Mapping[str, str] | None = None,
        first_uid: int = 64100,
        layers: Sequence[str] | None = None,
        secrets: Sequence[Path] = (),
    ) -> None:
        self._python = python
        self._scratch = scratch.resolve()
        self._environ = {
            **{name: value for name, value in (environ or {}).items() if name.startswith(NUMERIC_PREFIXES)},
            **dict.fromkeys(THREAD_COUNTS, str(threads)),
            **ALWAYS,
            "PATH": os.pathsep.join([*folder_of(python), ALWAYS["PATH"]]),
        }
        self._settings = {
            "scratch": str(self._scratch),
            "environ": self._environ,
            "secrets": [str(path.resolve()) for path in secrets],
        }
        if os.getuid() == 0:
            self._settings["first_uid"] = first_uid
        if layers is not None:
            self._settings["layers"] = list(layers)

    def start(self) -> None:
        """Start the process and wait until it has imported what it needs.

        Raises RuntimeError where the folder for scratch cannot be used, as it is another user's, or the interpreter
        lacks something; its own words are on standard error.
        """
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            self._scratch.chmod(0o711)  # slots' users pass through it
        except OSError as error:
            raise RuntimeError(f"{self._scratch} cannot be used: {error.strerror}") from None
        root = Path(__file__).parents[1]
        self._control, theirs = socket.socketpair()
        with theirs:
            try:
                command = [self._python, "-P", "-m", "runner.zygote", str(theirs.fileno())]
                self._process = subprocess.Popen(
                    [*self._overseer(), *command],
                    env={**self._environ, "PYTHONPATH": str(root)},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                raise RuntimeError(f"{self._python} cannot run submissions: {error.strerror}") from None
        try:
            wire.send(self._control, self._settings)
            message, _files = wire.receive(self._control)
            ready = message["ready"]
            self.isolation, self.missing, self.versions = ready["level"], ready["missing"], ready["versions"]
        except (EOFError, ConnectionError):
            status = self._process.wait()
            why = missing_in(self._python, self._environ) or f"the zygote ended with exit status {status}"
            raise RuntimeError(f"{self._python} cannot run submissions: {why}") from None

    def _overseer(self) -> list[str]:
        """Return the command that starts the zygote as one that may look into folds, empty for root, who may."""
        if not sandbox.LINUX or os.getuid() == 0 or not OVERSEES.issubset(self._settings.get("layers", OVERSEES)):
            return []
        return [self._python, "-P", "-S", "-c", OVERSEE, str(Path(__file__).parent)]

    def new_slot(self) -> socket.socket:
        """Return the worker's end of a new slot."""
        ours, theirs = socket.socketpair()
        with theirs:
            wire.send(self._control, {"slot": "new"}, [theirs.fileno()])
        return ours

    def fileno(self) -> int:
        """Readable when the process is gone."""
        return self._control.fileno()

    def poll(self) -> int | None:
        """Return the process's exit status, or None while it runs."""
        return self._process.poll()

    def close(self) -> None:
        """Give this process's end of its socket up, in one forked from its parent: it ends when nobody has one."""
        self._control.close()

    def stop(self) -> None:
        """End the process; slots end with their workers."""
        self.close()
        self._process.wait()


def folder_of(python: str) -> list[str]:
    """Return the folder of an interpreter named by its path, in which "python" is this one."""
    return [os.path.dirname(python)] if os.path.isabs(python) else []


def missing_in(python: str, environ: Mapping[str, str]) -> str:
    """Return what the interpreter lacks of what the runner needs, in its own words; "" for nothing."""
    checked = subprocess.run(
        [python, "-P", "-c", f"import sys, {', '.join(NEEDED)}; assert sys.version_info >= (3, 11), sys.version"],
        env=environ,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    lines = checked.stderr.strip().splitlines() if checked.returncode else []
    return f"{lines[-1]}; it needs Python 3.11 or later, numpy, pandas, scikit-learn and psutil" if lines else ""


class Slot:
    """One slot, used by one worker: starts a task, then receives its events until it is `Finished`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._task: FoldTask | SplitTask | None = None

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        """Give the slot up; what runs on it is killed."""
        self._sock.close()

    def start(self, task: FoldTask | SplitTask) -> None:
        """Hand over a task; at most one at a time. Raises SlotLost."""
        self._task = task
        kind, job, files, opened = _fold_message(task) if isinstance(task, FoldTask) else _split_message(task)
        try:
            self._send({kind: job}, files)
        finally:
            for file in opened:
                file.close()

    def stop(self, cause: str) -> None:
        """Kill the running task; its end, with this cause, is still to be received. Raises SlotLost."""
        self._send({"stop": cause})

    def _send(self, message: dict[str, Any], files: Sequence[BinaryIO] = ()) -> None:
        """Send a message. Raises SlotLost where the supervisor is gone, or stands still and the socket is full."""
        with self._handover():
            wire.send(self._sock, message, [file.fileno() for file in files])

    @contextmanager
    def _handover(self) -> Iterator[None]:
        """Have a message go through in time. Raises SlotLost."""
        self._sock.settimeout(HANDOVER)
        try:
            yield
        except (EOFError, OSError) as error:
            raise SlotLost(str(error)) from None
        finally:
            self._sock.settimeout(None)

    def receive(self, timeout: float | None = None) -> Event | None:
        """Return the next event, or None where none has begun to come after `timeout` seconds.

        Raises SlotLost, also where the supervisor stands still in the middle of one; OSError (ENOSPC) where the disk
        had no room for the task, which was not begun.
        """
        if not select.select([self._sock], [], [], timeout)[0]:
            return None
        with self._handover():
            message, fds = wire.receive(self._sock)
        [(event, content)] = message.items()
        if event == "no room":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if event == "log":
            return Log(content)
        if event == "progress":
            return Progress(content["state"], Measures.of(_usages(content["usages"])))
        files = [os.fdopen(fd, "rb") for fd in fds]
        for file in files:  # the writer's position and flags came with them: fcntl(2)
            fcntl.fcntl(file, fcntl.F_SETFL, 0)
            file.seek(0)
        task, self._task = self._task, None
        return Finished((_fold_outcome if isinstance(task, FoldTask) else _split_outcome)(task, content, files))


def _usages(content: dict[str, Any]) -> dict[str, Usage]:
    return {phase: Usage(**usage) for phase, usage in content.items()}


def _fold_message(task: FoldTask) -> tuple[str, dict[str, Any], Sequence[BinaryIO], Sequence[BinaryIO]]:
    train_is, y = wire.anonymous_file(), wire.anonymous_file()
    for file, array in ((train_is, task.train_is), (y, task.y)):
        np.save(file.raw, array, allow_pickle=False)  # to a buffered one, NumPy writes a copy
        file.seek(0)
    submission = {path.name: path.open("rb") for path in sorted(task.submission.iterdir())}
    specific = {path.name: path.open("rb") for path in sorted(task.specific.iterdir())} if task.specific else {}
    features = [path.open("rb") for path in (task.X_train, task.X_test)]
    files = [*submission.values(), *specific.values(), *features, train_is, y]
    job = {
        "workflow_elements": task.workflow_elements,
        "submission": list(submission),
        "custom": task.custom,
        "specific": list(stored_names(specific).values()),
        "n_rows": [task.n_train, task.n_test],
        "classes": task.classes,
        "limits": asdict(task.limits),
    }
    return "fold", job, files, files


def _split_message(task: SplitTask) -> tuple[str, dict[str, Any], Sequence[BinaryIO], Sequence[BinaryIO]]:
    custom = task.held_out_test is None
    job = {
        "files": list(stored_names(task.files).values() if custom else task.files),
        "custom": custom,
        "target_column": task.target_column,
        "workflow_elements": task.workflow_elements,
        "held_out_test": task.held_out_test,
        "random_state": task.random_state,
        "limits": asdict(task.limits),
    }
    posted = list(task.files.values())
    return "split", job, posted, posted


def _fold_outcome(task: FoldTask, content: dict[str, Any], files: Sequence[BinaryIO]) -> FoldOutcome:
    """Judge a fold by what its processes left: TESTED where both predictions are what they must be."""
    [result] = files
    end = End(**content["end"])
    if end.kind == "done" and os.fstat(result.fileno()).st_size > task.limits.predictions:  # whoever wrote it
        end = replace(end, kind="output", detail=task.limits.predictions)
    cause, sentence = conclude(end)
    if _is_of_the_data_set(task, end, cause):
        cause = "data_error"
        sentence = f"{sentence.removesuffix('.')}. {OF_THE_DATA_SET}"
    elif end.kind == "outside" and task.specific:
        sentence += ". No line of the submission takes part: it came up where the data set's own file used it."
    elif end.phase == "load" and cause == "timeout":
        # No line of the submission has run: the data is too large for so little time, or the process stood still.
        # Memory is told as what it is, as data that does not fit never will; so are files, the submission's own.
        cause = "infrastructure"
    predictions: list[np.ndarray] = []
    if cause is None:
        try:
            for phase, name, rows in (("validation", "training", task.n_train), ("test", "test", task.n_test)):
                shape = content["facts"][phase].get("shape")
                allowed = expected_shapes(task.workflow_elements, task.y, task.classes, rows)
                predictions.append(_read_predictions(result, shape, allowed, name))
        except ValueError as error:
            cause, sentence = "bad_predictions", str(error)
    result.close()
    log = content["log"]
    return FoldOutcome(
        "TESTED" if cause is None else "ERROR",
        cause,
        closed(log, sentence),
        Measures.of(_usages(content["usages"])),
        content["isolation"],
        *(predictions if cause is None else (None, None)),
    )


def _is_of_the_data_set(task: FoldTask, end: End, cause: str | None) -> bool:
    """Whether the data set's own file ended the fold: before any line of the submission, or as at its split."""
    if end.phase in ("specific", "features"):
        return cause != "cancelled"
    return end.kind == "outside" and task.specific_fault is not None and task.specific_fault in ("", end.fault)


def closed(log: str, sentence: str) -> str:
    """Return the log with the sentence for the submitter on a line of its own at the end."""
    return f"{log}{'' if not log or log.endswith(chr(10)) else chr(10)}{sentence}"


def expected_shapes(
    workflow_elements: list[str], y: np.ndarray, classes: list | None, rows: int
) -> list[list[int | None]]:
    """Return the shapes that predictions of so many rows may have, with None for any number of columns.

    Which of them it is, only the submission knows.
    """
    shapes = []
    n_targets = 1 if y.ndim == 1 else y.shape[1]
    kinds = predicts(workflow_elements)
    if not kinds or of_different_kinds(y):
        return [[rows], [rows, None]]
    if PROBABILITIES in kinds and classes:
        shapes.append([rows, n_columns(classes)])
    if VALUES in kinds or (PROBABILITIES in kinds and n_targets > 1):  # one probability for each label, yes or no
        shapes.append([rows] if n_targets == 1 else [rows, n_targets])
    return shapes


def _read_predictions(file: BinaryIO, shape: Any, allowed: list[list[int | None]], name: str) -> np.ndarray:
    """Read one array of predictions of an allowed shape, or raise ValueError with a sentence about what came."""
    expected = " or ".join(map(_shown, allowed))
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"The predictions of the {name} rows have no shape, expected {expected}.")
    shape = without_one_column(shape, allowed)
    if not any(_fits(shape, one) for one in allowed):
        raise ValueError(f"The predictions of the {name} rows have the shape {_shown(shape)}, expected {expected}.")
    size = math.prod(shape) * 8
    if os.fstat(file.fileno()).st_size - file.tell() < size:  # before there is memory for them
        raise ValueError(f"The predictions of the {name} rows are incomplete.")
    predictions = np.frombuffer(file.read(size), dtype="<f8").reshape(shape)
    if not np.isfinite(predictions).all():
        row, *column = np.argwhere(~np.isfinite(predictions))[0]
        where = f"row {row}, column {column[0]}" if column else f"row {row}"
        value = predictions[(row, *column)]
        raise ValueError(f"The predictions of the {name} rows are not finite: {value} in {where}.")
    return predictions


def without_one_column(shape: list[int], allowed: list[list[int | None]]) -> list[int]:
    """Return (n,) for (n, 1) where that is what is allowed."""
    return shape[:1] if shape[1:] == [1] and shape not in allowed else shape


def _fits(shape: list[int], allowed: list[int | None]) -> bool:
    return len(shape) == len(allowed) and all(n == m or (m is None and n) for n, m in zip(shape, allowed, strict=True))


def _shown(shape: list[int | None]) -> str:
    numbers = ["any" if n is None else str(n) for n in shape[:5]] + ["..."] * (len(shape) > 5)
    return f"({', '.join(numbers)}{',' if len(shape) == 1 else ''})"


def _split_outcome(task: SplitTask, content: dict[str, Any], files: Sequence[BinaryIO]) -> SplitOutcome:
    """Check what a split left; a data set's own file may have made all of it."""
    result, y_file, *_ = files
    cause, sentence = conclude(End(**content["end"]))
    log = content["log"]
    if cause is None:
        with result, y_file:
            try:
                return _checked_split(task, content["facts"], log, files)
            except Exception as error:  # whatever the libraries make of what the file forged
                cause, sentence = "data_error", f"The split cannot be used: {error}."
    for file in files:
        file.close()
    cause = cause if cause in ("infrastructure", "cancelled") else "data_error"
    return SplitOutcome(cause, closed(log, sentence))


def _checked_split(task: SplitTask, facts: dict[str, Any], log: str, files: Sequence[BinaryIO]) -> SplitOutcome:
    """Return the split that facts and files describe; raise an error where they do not describe any."""
    result, y_file, X_train, X_test = files
    n_train, n_test = (int(facts["split"][name]) for name in ("n_train", "n_test"))
    if not 1 <= n_test <= MOST_ROWS:
        raise ValueError(f"{n_test} test rows")
    if n_train > MOST_ROWS:
        raise ValueError(f"{n_train} training rows")
    y_train = read_labels(y_file, n_train)
    split_is = None
    if task.held_out_test is not None:
        split_is = np.frombuffer(result.read(), dtype="<i8")
        if len(split_is) != n_train + n_test:
            raise ValueError(f"{len(split_is)} indices for {n_train} and {n_test} rows")
    classes = _classes(task, y_train)
    trial = facts.get("trial", {})
    for part, rows in (("train", n_train), ("test", n_test)):
        if part in trial:
            allowed = expected_shapes(task.workflow_elements, y_train, classes, rows)
            _check_trial(trial[part], allowed, y_train.ndim == 1)
    return SplitOutcome(
        None, log, n_train, n_test, classes, split_is, y_train, X_train, X_test,
        specific_needed=facts["split"].get("needed") is True,
        specific_fault=fault if isinstance(fault := trial.get("fault"), str) else None,
    )  # fmt: skip


def _check_trial(shape: list[int], allowed: list[list[int | None]], one_target: bool) -> None:
    """Raise ValueError where the data set's own functions made of good predictions some of another shape.

    What columns there are for several targets, the trial cannot know.
    """
    right = any(_fits(without_one_column(shape, allowed), one) for one in allowed)
    if not right and (one_target or shape[:1] != allowed[0][:1]):
        expected = " or ".join(map(_shown, allowed))
        raise ValueError(f"test_submission made predictions of the shape {_shown(shape)}, expected {expected}")


def _classes(task: SplitTask, y_train: np.ndarray) -> list | None:
    """Return the classes of the labels, if the workflow may predict probabilities. Raises ValueError for too many."""
    kinds = predicts(task.workflow_elements)
    if PROBABILITIES not in kinds or of_different_kinds(y_train):
        return None
    if VALUES in kinds and not may_be_classes(y_train):
        return None
    classes = classes_of(y_train)
    if n_columns(classes) <= MOST_CLASSES:
        return classes
    if VALUES in kinds:
        return None
    raise ValueError(f"the labels have {n_columns(classes)} classes, and more than {MOST_CLASSES} are not predicted")
