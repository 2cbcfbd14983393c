"""A slot: the process that runs one task after another for one worker, each in a child of its own, and supervises it.

It trusts nothing that the child says but for the child's own faults, measures from outside, enforces the limits, and
leaves no process and no file of a task behind. It goes when its worker does.
"""

import errno
import json
import math
import mmap
import multiprocessing
import os
import select
import signal
import socket
import sys
import sysconfig
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from . import child, sandbox, tree, wire
from .folders import MOST_FILES, folder_size, make_folders, wipe
from .log import Log
from .posted import DATA_FUNCTIONS, ORGANISER
from .scratch import MOST_SLOTS
from .task import End, Limits, Usage

WATCH_INTERVAL = 0.05  # seconds between two looks at memory
DISK_INTERVAL = 0.25  # seconds between two looks at the files
LOG_INTERVAL = 1.0  # seconds between two copies of the growing log
PIPE_SIZE = 65536  # bytes read at once from the log
MOST_PIECES = 1024  # of the log between two looks at the limits; a pipe holds at most 256, of a byte each: pipe(2)
MARK_LENGTH = 65536  # bytes; a longer mark is none of ours
NICENESS = 5  # by which a task comes after its supervisor, or many busy processes would keep it from the limits
EXACT_SHARE = 0.1  # of the time that may go into exact looks at memory
MOST_MARKS = 64  # at once; the child waits for an answer after each
MOST_NUMBERS = 64  # in a fact
SENTENCE_LENGTH = 1000  # characters that the child may add to the last sentence
WORKER_GONE = 2  # exit status of a supervisor
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # on the disk, for a task's own folder and files
PHASES = {  # of each kind of task, without and with a Python file of the data set's own
    ("fold", False): ("load", "import", "train", "validation", "test"),
    ("fold", True): ("load", "specific", "import", "train", "validation", "test"),
    ("split", False): ("load", "split"),
    ("split", True): ("load", "specific", *DATA_FUNCTIONS, "split", "trial"),
}
STATES = {"train": "TRAINED", "validation": "VALIDATED"}


@dataclass(frozen=True)
class Settings:
    """What all slots of a zygote share.

    scratch : the folder of all running tasks.
    environ : the environment of a task's processes.
    first_uid : slot 0's own user, the other slots' follow; None where we are not root.
    layers : the restrictions to apply; fewer emulate a platform that lacks some.
    began : when the zygote did, by time.time().
    starts : when each slot's present task began, by time.time(), infinity for none; shared by all slots.
    level : what the zygote's self-test found the restrictions to be worth; a fold is never said to have had more.
    """

    scratch: Path
    environ: dict[str, str]
    first_uid: int | None = None
    layers: Sequence[str] = tuple(sandbox.LAYERS)
    began: float = field(default_factory=time.time)
    starts: memoryview = field(default_factory=lambda: shared_floats(MOST_SLOTS, math.inf))
    level: str = "strong"

    def uid(self, number: int) -> int | None:
        """Return the user of a slot's tasks, None for our own."""
        return None if self.first_uid is None else self.first_uid + number


def shared_floats(count: int, value: float) -> memoryview:
    """Return floats that this process shares with those it forks."""
    floats = memoryview(mmap.mmap(-1, 8 * count)).cast("d")
    for i in range(count):
        floats[i] = value
    return floats


def main(control: socket.socket, number: int, settings: Settings) -> NoReturn:
    """Be a slot: in a process just forked from the zygote, until its worker is gone.

    Each task is supervised by a process of its own, forked before the task comes. So nothing of an earlier task, its
    files or what it printed, lies in the memory that a fold inherits.
    """
    status = 1
    try:
        tree.become_subreaper()
        status = serve(control, number, settings)
    finally:
        if sys.exc_info()[1]:
            traceback.print_exc()
        os._exit(0 if status == WORKER_GONE else 1)  # the zygote's stack, below us, is not ours to unwind


def serve(control: socket.socket, number: int, settings: Settings) -> int:
    """Have one task after another supervised; return the first exit status of a supervisor that is not 0."""
    home, uid = settings.scratch / f"slot-{number}", settings.uid(number)
    prepared = sandbox.prepare(uid=uid)
    ours = [os.getpid(), os.getppid()]
    wipe(home)  # of a slot that was killed
    supervisors: deque[int] = deque()  # the one whose turn it is, and the next: its fork keeps nobody waiting
    turn, begun = os.pipe()
    os.close(begun)
    status = 0
    while not status:
        next_turn, done = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(next_turn)
            supervise(turn, done, control, ours, home, number, prepared, settings)
        os.close(turn)
        os.close(done)
        turn = next_turn
        supervisors.append(pid)
        if len(supervisors) == 2:
            status = os.waitstatus_to_exitcode(os.waitpid(supervisors.popleft(), 0)[1])
    tree.end_all(os.getpid())
    settings.starts[number] = math.inf
    wipe(home)
    return status


def supervise(
    turn: int,
    done: int,
    control: socket.socket,
    ours: list[int],
    home: Path,
    number: int,
    prepared: sandbox.Prepared,
    settings: Settings,
) -> NoReturn:
    """Be a supervisor: when `turn` says that the one before is done, run the next task from the worker and end.

    `turn` is the reading end of a pipe whose writing end, `done`, that one alone had.
    """
    status = 1
    try:
        sandbox.die_with(ours[0])
        with suppress(PermissionError):  # as root; else the task alone steps back
            os.nice(-NICENESS)
        tree.become_subreaper()
        protected = sandbox.protecting(prepared, [os.getpid(), *ours])
        os.read(turn, 1)
        message, files = wire.receive(control)
        with suppress(AttributeError):  # where the system has no such thing
            settings.starts.obj.madvise(mmap.MADV_DONTFORK)  # no fold may write to it: madvise(2)
        if "stop" not in message:  # else it crossed the end of its task
            try:
                Task(message, files, control, home, number, protected, settings).run()
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                settings.starts[number] = math.inf
                wipe(home)
                wire.send(control, {"no room": ""})
        os.close(done)
        status = 0
    except (EOFError, ConnectionError):
        status = WORKER_GONE
    finally:
        if status == 1:
            traceback.print_exc()
        os._exit(status)


class Task:
    """One task under way."""

    def __init__(
        self,
        message: dict[str, Any],
        files: Sequence[int],
        control: socket.socket,
        home: Path,
        number: int,
        prepared: sandbox.Prepared,
        settings: Settings,
    ) -> None:
        [(self._kind, self._job)] = message.items()
        specific = bool(self._job["specific"])
        self._files = list(files)
        self._packages = {child.PACKAGE: self._take_files(self._job.get("submission", []))}
        if specific:
            self._packages[ORGANISER] = self._take_files(self._job["specific"] if self._kind == "fold" else [])
        self._control = control
        self._number = number
        self._uid = settings.uid(number)
        self._prepared = prepared
        self._settings = settings
        self._limits = Limits(**self._job["limits"])
        self._phases = PHASES[self._kind, specific]
        self._home = home
        self._folder = home / child.PACKAGE
        self._result = wire.anonymous_file(settings.scratch)
        self._outputs: list[BinaryIO] = []
        if self._kind == "split":
            self._outputs = [wire.anonymous_file(), *(wire.anonymous_file(settings.scratch) for _ in range(2))]
        self._log = Log(self._limits.log_kept, _shortened(home / package for package in self._packages))
        self._log_sent = (0, time.monotonic())
        self._outbox = b""
        self._marks = b""
        self._layers: list[str] = []
        self._done: dict[str, Usage] = {}  # phases that are over
        self._facts: dict[str, Any] = {}  # what the marks say of the result
        self._claim: End | None = None  # the child's own account of its end
        self._allowance = math.inf  # bytes, known when the child has started
        self._next_exact = 0.0

    def _take_files(self, names: Sequence[str]) -> dict[str, int]:
        """Return the next files by these names; what stays in `_files` is the child's input."""
        taken, self._files = self._files[: len(names)], self._files[len(names) :]
        return dict(zip(names, taken, strict=True))

    @property
    def _phase(self) -> str:
        return self._phases[min(len(self._done), len(self._phases) - 1)]

    def run(self) -> None:
        """Run the task to its end and tell the worker."""
        self._settings.starts[self._number] = time.time()
        make_folders(self._home, self._packages, self._uid)
        end = self._supervise()
        self._settings.starts[self._number] = math.inf
        self._clean()
        finished = {
            "end": asdict(end),
            "log": self._log.text(),
            "usages": {phase: asdict(usage) for phase, usage in self._done.items()},
            "facts": self._facts,
            "isolation": min(self._settings.level, sandbox.level(self._layers), key=sandbox.LEVELS.index),
        }
        self._control.sendall(self._outbox)
        files = [self._result, *self._outputs]
        wire.send(self._control, {"finished": finished}, [file.fileno() for file in files])
        for file in files:
            file.close()

    def _clean(self) -> None:
        """Remove all files that the task left, its own folder and elsewhere."""
        wipe(self._home)
        if "uid" in self._layers:
            sandbox.sweep_user(self._uid)
        elif "shm" not in self._layers:
            sandbox.sweep_shared_memory(self._settings.began, min(self._settings.starts))

    def _supervise(self) -> End:
        log, log_end = os.pipe()
        marks, marks_end = socket.socketpair()
        self._start = self._since = time.monotonic()
        self._cpu_time = tree.CpuTime()
        self._cpu_start = self._cpu_since = self._cpu_time.read()
        self._slot = os.getpid()
        self._mapped = sum(os.fstat(fd).st_size for fd in self._files)
        handed = [*self._files, *(file.fileno() for file in (self._result, *self._outputs))]
        self._known = {tree.identity(os.fstat(fd)) for fd in handed}  # files without a path that are ours
        self._disk = self._limits.disk + (self._mapped if self._kind == "split" else 0)  # posted files are copied
        self._pid = os.fork()
        if self._pid == 0:
            self._become_child(log_end, marks_end.fileno())
        os.close(log_end)
        marks_end.close()
        os.set_blocking(log, False)
        marks.setblocking(False)
        self._memory = self._hwm = tree.peak_memory(self._pid)
        self._exited = open_process(self._pid)
        try:
            end = self._watch(log, marks)
        finally:
            tree.end_all(os.getpid())
            self._read_log(log)
            marks.close()
            for fd in (log, *self._exited):
                os.close(fd)
        return end

    def _become_child(self, log: int, marks: int) -> NoReturn:
        """In the forked child: leave all of ours behind, then do the task's work."""
        try:
            keep = {marks, self._result.fileno(), *self._files, *(file.fileno() for file in self._outputs)}
            enter_child(log, keep, self._home, self._settings.environ)
            layers = sandbox.restrict(self._policy(), self._prepared)
            os.chdir(self._folder)
            mark = child.mark_on(marks)
            mark(mark="started", layers=sorted(layers))
        except BaseException as error:  # said by the exit status: this process must not go on as a second slot
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(70)
        child.run(self._work(), mark, self._home)
        os._exit(70)

    def _policy(self) -> sandbox.Policy:
        limits = self._limits
        return sandbox.Policy(
            scratch=self._home,
            uid=self._uid,
            parent=self._slot,
            limits=sandbox.ProcessLimits(
                cpu=None if math.isinf(limits.cpu_time) else limits.cpu_time,
                memory=tree.data_size() + self._mapped + limits.memory,
                processes=limits.processes,
                file_size=max(self._disk, limits.predictions),
                shared_memory=limits.memory // 4,
            ),
            layers=self._settings.layers,
        )

    def _work(self) -> Callable[[child.Mark], None]:
        files = list(self._files)
        if self._kind == "fold":
            return lambda mark: child.train_test_fold(self._job, self._home, files, self._result, mark)
        if self._job["specific"]:
            return lambda mark: child.split_by_specific(self._job, self._home, files, self._outputs, mark)
        return lambda mark: child.split_raw_data(self._job, files, self._result, self._outputs, mark)

    def _watch(self, log: int, marks: socket.socket) -> End:
        """Wait for the task's end, by itself or by ours."""
        poll = select.poll()
        for fd in (log, marks.fileno(), self._control.fileno(), *self._exited):
            poll.register(fd, select.POLLIN)
        next_look = next_disk = 0.0
        deadline = self._start + self._limits.wall_time
        while True:
            if self._outbox:
                poll.modify(self._control.fileno(), select.POLLIN | select.POLLOUT)
            events = dict(poll.poll(WATCH_INTERVAL * 1000))
            if self._outbox and events.get(self._control.fileno(), 0) & select.POLLOUT:
                self._flush_outbox()
                poll.modify(self._control.fileno(), select.POLLIN)
            if log in events and not self._read_log(log):
                poll.unregister(log)
            if marks.fileno() in events and not self._read_marks(marks):
                poll.unregister(marks.fileno())
            if events.get(self._control.fileno(), 0) & ~select.POLLOUT:
                message, _files = wire.receive(self._control)
                return self._end("stopped", message["stop"])
            if self._claim:
                return self._claim
            if (status := self._exit_status(events)) is not None:
                self._read_marks(marks)
                return self._claim or self._end("exit", status)
            now = time.monotonic()
            if now > deadline:
                return self._end("timeout", self._limits.wall_time)
            if self._log.size > self._limits.log:
                return self._end("log_limit", self._limits.log)
            if now >= next_look:
                next_look = now + WATCH_INTERVAL
                if self._too_much_memory():
                    return self._end("memory_limit", self._limits.memory)
                if self._cpu_time.read() - self._cpu_start > self._limits.cpu_time:
                    return self._end("cpu_limit", self._limits.cpu_time)
            if now >= next_disk:
                size, files = folder_size(self._home, self._disk)
                removed, memory = tree.out_of_sight(self._slot, self._known, deadline)
                next_disk = now + max(DISK_INTERVAL, 3 * (time.monotonic() - now))
                if memory > self._limits.memory:
                    return self._end("memory_limit", self._limits.memory)
                if size + removed > self._disk:
                    return self._end("disk_limit", self._limits.disk)
                if files > MOST_FILES:
                    return self._end("file_limit", MOST_FILES)
            self._send_log(now)

    def _exit_status(self, events: dict[int, int]) -> int | None:
        """Return the child's exit status, negative for a signal, or None while it runs."""
        if self._exited and self._exited[0] not in events:
            return None
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def _end(self, kind: str, detail: Any = None) -> End:
        tree.stop_all(os.getpid())  # first: measuring takes long where many processes are busy
        phase, usage = self._phase, self._close_phase()
        if len(self._done) < len(self._phases):
            self._done[phase] = usage
        return End(kind, phase, detail)

    # Measuring

    def _close_phase(self) -> Usage:
        """Return what the present phase has taken until now, and let the next one begin."""
        now, cpu = time.monotonic(), self._cpu_time.read()
        self._sample_memory()
        hwm = tree.peak_memory(self._pid)
        if hwm > self._hwm:  # this process's peak, between two samples, lies in this phase
            self._memory = max(self._memory, hwm)
        usage = Usage(now - self._since, cpu - self._cpu_since, self._memory)
        self._since, self._cpu_since, self._hwm, self._memory = now, cpu, hwm, 0
        self._sample_memory()
        return usage

    def _sample_memory(self) -> int:
        sample, self._most = tree.memory(self._pid, os.getpid())
        self._memory = max(self._memory, sample)
        return sample

    def _too_much_memory(self) -> bool:
        sample = self._sample_memory()
        if sample <= self._allowance and self._most > self._allowance:
            sample += tree.shared_memory(self._pid, os.getpid())
        if sample <= self._allowance:
            return False
        began = time.monotonic()
        if began < self._next_exact:
            return False
        exact = tree.proportional_memory(os.getpid(), self._start + self._limits.wall_time)
        self._next_exact = began + (time.monotonic() - began) / EXACT_SHARE
        return exact is None or exact > self._allowance

    # Reading what the child writes, telling the worker

    def _read_log(self, log: int) -> bool:
        """Read what is there, or as much as a pipe holds; return whether more may come."""
        with suppress(BlockingIOError):
            for _ in range(MOST_PIECES):
                if not (data := os.read(log, PIPE_SIZE)):
                    return False
                self._log.append(data)
                if self._log.size > self._limits.log:
                    break
        return True

    def _read_marks(self, marks: socket.socket) -> bool:
        """Read what is there; return whether more may come."""
        try:
            data = marks.recv(MARK_LENGTH)  # once: whoever never stops writing must not keep us from the limits
        except BlockingIOError:
            return True
        *lines, self._marks = (self._marks + data).split(b"\n")
        for line in lines[:MOST_MARKS]:
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):  # garbage
                self._take_mark(json.loads(line))
            with suppress(BlockingIOError, ConnectionError):
                marks.send(b"\0")
        return bool(data) and len(self._marks) <= MARK_LENGTH

    def _take_mark(self, mark: dict[str, Any]) -> None:
        if self._claim:
            return
        if failed := mark.get("failed"):
            self._take_claim(failed, self._log.shortened(one_line(str(mark["detail"]))))
        elif mark["mark"] == "started" and math.isinf(self._allowance):
            self._layers = [str(layer) for layer in mark["layers"]]
            self._close_phase()
            self._allowance = self._sample_memory() + self._mapped + self._limits.memory
        elif mark["mark"] == "done" and len(self._done) == len(self._phases):
            self._claim = self._end("done")
        elif mark["mark"] == self._phase and len(self._done) < len(self._phases):
            self._facts[self._phase] = {key: value for key, value in mark.items() if is_fact(value)}
            phase, self._done[phase] = self._phase, self._close_phase()
            if phase in STATES:
                self._tell({"progress": {"state": STATES[phase], "usages": _plain(self._done)}})

    def _take_claim(self, failed: str, detail: str) -> None:
        details = {
            "exception": detail,
            "outside": detail,
            "bad_predictions": detail,
            "memory": self._limits.memory,
            "output": self._limits.predictions,
        }
        if failed in details:
            self._claim = self._end(failed, details[failed])

    def _send_log(self, now: float) -> None:
        size, when = self._log_sent
        if self._log.size != size and now - when >= LOG_INTERVAL and not self._outbox:
            self._log_sent = (self._log.size, now)
            self._tell({"log": self._log.text()})

    def _tell(self, message: dict[str, Any]) -> None:
        """Send without ever waiting for the worker: a stopped worker must not stop the supervision."""
        self._outbox += wire.pack(message)
        self._flush_outbox()

    def _flush_outbox(self) -> None:
        with suppress(BlockingIOError):
            self._outbox = self._outbox[self._control.send(self._outbox, socket.MSG_DONTWAIT) :]


def is_fact(value: Any) -> bool:
    """Return whether a mark's value is a number or a few of them, as the result's shape is."""
    if isinstance(value, list):
        return len(value) <= MOST_NUMBERS and all(type(n) is int and abs(n) < 2**63 for n in value)
    return isinstance(value, int) and abs(value) < 2**63


def one_line(text: str) -> str:
    """Return the first line of a text from outside, bounded, as any database takes it: no NUL, no lone surrogate."""
    [line, *_] = text[:SENTENCE_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines() or [""]
    return line.encode(errors="replace").decode()


def _plain(usages: dict[str, Usage]) -> dict[str, dict[str, float]]:
    return {phase: asdict(usage) for phase, usage in usages.items()}


def open_process(pid: int) -> list[int]:
    """Return a descriptor that becomes readable when the process ends (pidfd_open(2)), or none where there is none."""
    try:
        return [os.pidfd_open(pid)]
    except (AttributeError, OSError):
        return []


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


def _shortened(folders: Iterable[Path]) -> dict[str, str]:
    """Return which paths a log shows shorter: the files in these folders by their names, libraries by theirs."""
    paths = sysconfig.get_paths()
    return {f"{path}/": "" for path in (*folders, paths["purelib"], paths["platlib"], paths["stdlib"])}
