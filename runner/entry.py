"""A task's process before its task is there: it leaves all of ours behind, restricts itself, and waits for its work.

That comes from the supervisor (waiting.py) in one message (wire.py): {"kind", "job", "limits", "mapped"}, and the open
files.
"""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from . import child, handed_files, sandbox, tree, wire
from .posted import PACKAGE
from .settings import Settings

FAILED = 70  # exit status of a process that could not begin: EX_SOFTWARE of sysexits.h
# What a task of the same user might send to the process of the next one. A stopped process acts on it when it goes on.
DROPPED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
N_OUTPUTS = {"fold": 0, "split": 3}  # files for what a task makes, after the one for its result


def wait_and_work(
    log: int,
    marks_end: int,
    policy: sandbox.Policy,
    prepared: sandbox.Prepared,
    niceness: int,
    settings: Settings,
) -> NoReturn:
    """In the forked child: leave all of ours behind, wait for the task's work, do it.

    Parameters
    ----------
    log, marks_end : its ends of the pipe that it prints to and of the socket of its marks.
    policy : what it may do. Its limits are None: they come with the work.
    prepared : what the stem found out for `sandbox.restrict`.
    niceness : its priority while it waits.
    settings : what all slots share; a process that lacks a restriction that is `expected` there ends at once.
    """
    try:
        home = policy.scratch
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        marks = socket.socket(fileno=marks_end)
        enter_child(log, {marks_end}, home)
        layers = sandbox.restrict(policy, prepared)
        message, files = wire.receive(marks)
        take_signals()
        limits = message["limits"]
        limits["memory"] += tree.data_size() + message["mapped"]
        layers |= sandbox.limit(sandbox.ProcessLimits(**limits), policy, layers)
        if lacking := set(settings.expected) - layers:
            raise RuntimeError(f"restrictions did not take hold: {', '.join(sorted(lacking))}")
        os.chdir(home / PACKAGE)
        mark = child.mark_on(marks_end)
        mark(mark="started", layers=sorted(layers))
    except BaseException as error:  # said by the exit status: this process must not go on as a second stem
        if not isinstance(error, EOFError):  # its supervisor has ended
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(FAILED)
    child.run(_work(message["kind"], message["job"], home, files), mark, home)
    os._exit(FAILED)


def _work(kind: str, job: dict[str, Any], home: Path, files: list[int]) -> Callable[[child.Mark], None]:
    n_inputs = len(files) - 1 - N_OUTPUTS[kind]
    inputs, (result, *outputs) = files[:n_inputs], [os.fdopen(fd, "w+b") for fd in files[n_inputs:]]
    if kind == "fold":
        return lambda mark: child.train_test_fold(job, home, inputs, result, mark)
    if job["custom"]:
        return lambda mark: child.split_by_specific(job, home, inputs, outputs, mark)
    return lambda mark: child.split_raw_data(job, inputs, result, outputs, mark)


def prepare_stem(environ: dict[str, str]) -> None:
    """In the stem: set once what is alike for all its children; each of them would copy the memory that it writes."""
    for sig in DROPPED:
        signal.signal(sig, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(environ)
    tempfile.tempdir = None
    sys.stdin = sys.__stdin__ = open(0)  # noqa: SIM115
    sys.argv = [""]
    if sandbox.LINUX:
        multiprocessing.set_start_method("fork", force=True)  # Python 3.14's default would need sockets
        handed_files.install()
    sys.modules["__main__"] = type(sys)("__main__")  # else loky's workers would import the zygote as their main module


def enter_child(log: int, keep: set[int], home: Path) -> None:
    """Leave the stem's session and descriptors behind."""
    os.setsid()
    for target in (1, 2):
        os.dup2(log, target)
    for fd in map(int, os.listdir("/dev/fd")):
        if fd > 2 and fd not in keep:
            with suppress(OSError):  # the listing's own
                os.close(fd)
    os.environ.update(HOME=str(home), TMPDIR=str(home / "tmp"), JOBLIB_TEMP_FOLDER=str(home / "tmp"))
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="replace", buffering=1)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="replace", buffering=1)  # noqa: SIM115


def take_signals() -> None:
    """Handle signals as a new process of Python's does."""
    for sig in (DROPPED | {signal.SIGCHLD}) - {signal.SIGPIPE, signal.SIGXFSZ}:
        signal.signal(sig, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
