"""A task's process before its task is there: forked, all of ours left behind, restricted; it waits for its work.

To get so far takes about as long as a small fold trains; so it is done while the task before runs. The supervisor
forks it and sends it one message (wire.py) with its work: {"kind", "job", "limits", "mapped"}, and the open files.
"""

import multiprocessing
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from . import child, sandbox, tree, wire
from .first_writes import Span, copy
from .folders import make_folders
from .posted import PACKAGE

NICENESS = 5  # by which a task comes after its supervisor, or many busy processes would keep it from the limits
FAILED = 70  # exit status of a process that could not begin: EX_SOFTWARE of sysexits.h
N_OUTPUTS = {"fold": 0, "split": 3}  # files for what a task makes, after the one for its result


class WaitingChild:
    """The process, as its supervisor sees it.

    Parameters
    ----------
    policy : what it may do. Its limits are None: they come with the work.
    prepared : what the zygote found out for `sandbox.restrict`.
    environ : its environment, but for what names its folder.
    first_writes : the memory that it copies while it waits.

    Attributes
    ----------
    pid : its process id.
    log : descriptor of the pipe that it prints to; reading does not block.
    marks : the socket of its marks, which gets the work first.
    exited : descriptors of which the first becomes readable when the process ends; empty where there is no such thing.
    """

    def __init__(
        self,
        policy: sandbox.Policy,
        prepared: sandbox.Prepared,
        environ: dict[str, str],
        first_writes: list[Span],
    ) -> None:
        self.policy = policy
        home = policy.scratch
        make_folders([home, home / "tmp", home / PACKAGE], policy.uid)
        self.log, log_end = os.pipe()
        self.marks, marks_end = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            _wait_and_work(log_end, marks_end, policy, prepared, environ, first_writes)
        os.close(log_end)
        marks_end.close()
        os.set_blocking(self.log, False)
        self.exited = open_process(self.pid)

    def lives(self) -> bool:
        """Whether it still waits for its work, as far as can be told."""
        return not (self.exited and select.select(self.exited, [], [], 0)[0])

    def start(
        self, kind: str, job: dict[str, Any], limits: sandbox.ProcessLimits, mapped: int, files: Sequence[int]
    ) -> None:
        """Give it its work.

        Parameters
        ----------
        limits : its memory is on top of the process's own and of what is mapped.
        mapped : bytes of the input files.
        files : the inputs of the job, the file for its result, those for what it makes.
        """
        work = {"kind": kind, "job": job, "limits": asdict(limits), "mapped": mapped}
        with suppress(OSError):  # it has ended; or it got ready at the priority that it is to have
            os.setpriority(os.PRIO_PROCESS, self.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        with suppress(ConnectionError):  # it has ended, as its exit status says
            wire.send(self.marks, work, files)
        self.marks.setblocking(False)


def open_process(pid: int) -> list[int]:
    """Return a descriptor that becomes readable when the process ends (pidfd_open(2)), or none where there is none."""
    try:
        return [os.pidfd_open(pid)]
    except (AttributeError, OSError):
        return []


def _wait_and_work(
    log: int,
    marks: socket.socket,
    policy: sandbox.Policy,
    prepared: sandbox.Prepared,
    environ: dict[str, str],
    first_writes: list[Span],
) -> NoReturn:
    """In the forked child: leave all of ours behind, wait for the task's work, do it."""
    try:
        home = policy.scratch
        enter_child(log, {marks.fileno()}, home, environ)
        layers = sandbox.restrict(policy, prepared)
        copy(first_writes, enough=lambda: bool(select.select([marks], [], [], 0)[0]))
        message, files = wire.receive(marks)
        limits = message["limits"]
        limits["memory"] += tree.data_size() + message["mapped"]
        layers |= sandbox.limit(sandbox.ProcessLimits(**limits), policy, layers)
        os.chdir(home / PACKAGE)
        mark = child.mark_on(marks.fileno())
        mark(mark="started", layers=sorted(layers))
    except BaseException as error:  # said by the exit status: this process must not go on as a second supervisor
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
    if job["specific"]:
        return lambda mark: child.split_by_specific(job, home, inputs, outputs, mark)
    return lambda mark: child.split_raw_data(job, inputs, result, outputs, mark)


def enter_child(log: int, keep: set[int], home: Path, environ: dict[str, str]) -> None:
    """Leave the slot's session, signals, descriptors, environment and Python state behind."""
    os.setsid()
    os.nice(NICENESS)
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(sig, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for fd in map(int, os.listdir("/dev/fd")):
        if fd > 2 and fd not in keep:
            with suppress(OSError):  # the listing's own
                os.close(fd)
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(environ, HOME=str(home), TMPDIR=str(home / "tmp"), JOBLIB_TEMP_FOLDER=str(home / "tmp"))
    tempfile.tempdir = None
    sys.stdin = sys.__stdin__ = open(0)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="replace", buffering=1)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="replace", buffering=1)  # noqa: SIM115
    sys.argv = [""]
    if tree.LINUX:
        multiprocessing.set_start_method("fork", force=True)  # Python 3.14's default would need sockets
    sys.modules["__main__"] = type(sys)("__main__")  # else loky's workers would import the zygote as their main module
