"""A slot: a supervisor that runs one task after another for one worker, each in a process of its own, and their stem.

The supervisor trusts nothing that a task's process says but for its own faults, measures from outside, enforces the
limits, and leaves no process and no file of a task behind. It goes when its worker does, and the stem with it.
"""

import errno
import json
import math
import os
import random
import select
import signal
import socket
import sysconfig
import time
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from . import procfs, sandbox, tree, wire
from .folders import copy_files, make_folders, wipe
from .log import Log
from .look import start_threads
from .meter import HURRY, LOOK_INTERVAL, Meter
from .posted import DATA_FUNCTIONS, ORGANISER, PACKAGE, is_code
from .settings import Place, Settings
from .stem import NICENESS, Stem, serve
from .task import End, Limits, Usage
from .waiting import Starter

SHORT = 0.1  # seconds; a shorter task has the cores for itself, and the next child gets ready after it
MANY = 16  # processes; stopping more of them one by one may take long
LOG_INTERVAL = 1.0  # seconds between two copies of the growing log
PIPE_SIZE = 65536  # bytes read at once from the log
MOST_PIECES = 1024  # of the log between two looks at the limits; a pipe holds at most 256, of a byte each: pipe(2)
MARK_LENGTH = 65536  # bytes; a longer mark is none of ours
MOST_MARKS = 64  # at once; the child waits for an answer after each
MOST_NUMBERS = 64  # in a fact
SENTENCE_LENGTH = 1000  # characters that the child may add to the last sentence
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # on the disk, for a task's own folder and files
PHASES = {  # of each kind of task, without and with a Python file of the data set's own
    ("fold", False): ("load", "import", "train", "validation", "test"),
    ("fold", True): ("load", "specific", "features", "import", "train", "validation", "test"),
    ("split", False): ("load", "split"),
    ("split", True): ("load", "specific", *DATA_FUNCTIONS, "split", "trial"),
}
STATES = {"train": "TRAINED", "validation": "VALIDATED"}


def main(control: socket.socket, number: int, settings: Settings) -> NoReturn:
    """Be a slot: in a process just forked from the zygote, until its worker is gone. It becomes the stem."""
    status = 1
    try:
        tree.become_subreaper()
        folder = settings.scratch / f"slot-{number}"
        places = settings.places(folder, number)
        wipe(folder)  # of a slot that was killed
        folder.mkdir(mode=0o711)  # folds' own users pass through it
        prepared = sandbox.prepare(hidden=settings.hidden, uid=places[0].uid)
        ours = [os.getpid(), os.getppid()]
        link, end = socket.socketpair()
        if os.fork() == 0:
            end.close()
            supervise(control, Stem(link, ours[0]), ours, number, places, settings)
        link.close()
        serve(end, control, places, prepared, settings)
        control.close()  # at once: its worker waits for that
        tree.end_all(os.getpid())
        settings.starts[number] = math.inf
        wipe(folder)
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)  # the zygote's stack, below us, is not ours to unwind


def supervise(
    control: socket.socket,
    stem: Stem,
    ours: Collection[int],
    number: int,
    places: Sequence[Place],
    settings: Settings,
) -> NoReturn:
    """Be the supervisor: have one task of the worker after another done, until it is gone. `ours`: stem and zygote."""
    status = 1
    try:
        sandbox.die_with(stem.pid)
        with suppress(PermissionError):  # as root; else the task alone steps back
            os.nice(-NICENESS)
        start_threads()
        stem.protect([os.getpid(), *ours])
        starter = Starter(stem, places)
        while True:
            message, files = wire.receive(control)
            if "stop" in message:  # it crossed the end of its task
                continue
            try:
                with closing(Task(message, files, control, number, stem, starter, settings)) as task:
                    task.run()
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                starter.clear()
                settings.starts[number] = math.inf
                wire.send(control, {"no room": ""})
            for fd in files:
                os.close(fd)
    except (EOFError, ConnectionError):  # the worker is gone, or the stem
        status = 0
    finally:
        if status:
            traceback.print_exc()
        with suppress(OSError):
            control.shutdown(socket.SHUT_RDWR)  # the stem, which may stand still, has it open too
        os._exit(status)


class Task:
    """One task under way."""

    def __init__(
        self,
        message: dict[str, Any],
        files: Sequence[int],
        control: socket.socket,
        number: int,
        stem: Stem,
        starter: Starter,
        settings: Settings,
    ) -> None:
        [(self._kind, self._job)] = message.items()
        custom = self._job["custom"]
        self._files = list(files)
        self._packages = {PACKAGE: self._take_files(self._job.get("submission", []))}
        if custom:
            self._packages[ORGANISER] = self._take_files(self._job.get("specific", []))
        self._control = control
        self._number = number
        self._stem = stem
        self._starter = starter
        self._settings = settings
        self._limits = Limits(**self._job["limits"])
        self._phases = PHASES[self._kind, custom]
        self._result = wire.anonymous_file(settings.scratch)
        self._outputs: list[BinaryIO] = []
        if self._kind == "split":
            self._outputs = [wire.anonymous_file(), *(wire.anonymous_file(settings.scratch) for _ in range(2))]
        settings.starts[number] = time.time()
        self._child = starter.take(self._limits.memory)
        self._pid = self._child.pid
        self._home = home = self._child.place.home
        self._log = Log(self._limits.log_kept, _shortened(home, self._packages))
        self._log_sent = (0, time.monotonic())
        self._outbox = b""
        self._marks = b""
        self._layers: list[str] = []
        self._done: dict[str, Usage] = {}  # phases that are over
        self._facts: dict[str, Any] = {}  # what the marks say of the result
        self._claim: End | None = None  # the child's own account of its end
        self._many = False  # processes, when they were last looked at
        self._held: set[int] = set()  # the processes that stand still until looks are over
        self._asleep: set[int] = set()  # those that had stopped by themselves before

    def _take_files(self, names: Sequence[str]) -> dict[str, int]:
        """Return the next files by these names; what stays in `_files` is the child's input."""
        taken, self._files = self._files[: len(names)], self._files[len(names) :]
        return dict(zip(names, taken, strict=True))

    @property
    def _phase(self) -> str:
        return self._phases[min(len(self._done), len(self._phases) - 1)]

    def run(self) -> None:
        """Run the task to its end and tell the worker."""
        self._fill_folders()
        end = self._supervise()
        if stopped := end.kind == "done" and self._stopped == [self._pid]:
            self._finish(end)  # nobody waits for the end of a process that runs no more
        self._stem.end_all(self._starter.spare())
        self._settings.starts[self._number] = math.inf
        self._clean()
        if not stopped:
            self._finish(end)
        self._starter.get_ready(self._limits.memory)

    def close(self) -> None:
        """Close what it has opened, as it has ended."""
        self._child.close()
        for file in (self._result, *self._outputs):
            file.close()

    def _processes(self) -> Iterator[int]:
        return self._stem.processes(self._starter.spare())

    def _fill_folders(self) -> None:
        uid = self._child.place.uid
        for package, files in self._packages.items():
            if package != PACKAGE:  # that is there
                make_folders([self._home / package], uid)
            copy_files(self._home / package, files, uid)

    def _finish(self, end: End) -> None:
        """Tell the worker how the task ended, and hand over what it has made."""
        self._read_log(self._child.log)
        finished = {
            "end": vars(end),
            "log": self._log.text(),
            "usages": _plain(self._done),
            "facts": self._facts,
            "isolation": min(self._settings.level, sandbox.level(self._layers), key=sandbox.LEVELS.index),
        }
        self._control.sendall(self._outbox)
        files = [self._result, *self._outputs]
        wire.send(self._control, {"finished": finished}, [file.fileno() for file in files])

    def _clean(self) -> None:
        """Remove all files that the task left, its own folder and elsewhere."""
        wipe(self._home)
        self._starter.sweep()
        if "uid" in self._layers:
            sandbox.sweep_user(self._child.place.uid)
        elif "shm" not in self._layers:
            sandbox.sweep_shared_memory(self._settings.began, min(self._settings.starts))

    def _supervise(self) -> End:
        limits = self._limits
        handed = [*self._files, *(file.fileno() for file in (self._result, *self._outputs))]
        mapped = sum(os.fstat(fd).st_size for fd in self._files)
        disk = limits.disk + (mapped if self._kind == "split" else 0)  # posted files are copied
        self._start = time.monotonic()
        self._meter = Meter(
            self._pid,
            self._stem.pid,
            self._processes,
            limits,
            disk=disk,
            mapped=mapped,
            home=self._home,
            scratch=self._settings.scratch,
            handed=handed,
            result=self._result,
            labels=self._outputs[:1],
            features=self._outputs[1:],
        )
        process_limits = sandbox.ProcessLimits(
            cpu=None if math.isinf(limits.cpu_time) else limits.cpu_time,
            memory=limits.memory,
            processes=limits.processes,
            file_size=max(disk, limits.predictions),
        )
        self._child.start(self._kind, self._job, process_limits, mapped, handed)
        return self._watch(self._child.log, self._child.marks)

    def _watch(self, log: int, marks: socket.socket) -> End:
        """Wait for the task's end, by itself or by ours."""
        poll = select.poll()
        for fd in (log, marks.fileno(), self._control.fileno(), *self._child.exited):
            poll.register(fd, select.POLLIN)
        next_look = self._start + LOOK_INTERVAL
        deadline = self._start + self._limits.wall_time
        while True:
            if self._outbox:
                poll.modify(self._control.fileno(), select.POLLIN | select.POLLOUT)
            events = dict(poll.poll(1000 * max(min(next_look - time.monotonic(), LOOK_INTERVAL), 0)))
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
                return self._claim or self._exited(status)
            now = time.monotonic()
            if now > deadline:
                return self._end("timeout", self._limits.wall_time)
            if self._log.size > self._limits.log:
                return self._end("log_limit", self._limits.log)
            if now - self._start > SHORT:
                self._starter.get_ready(self._limits.memory)
            if now >= next_look:
                pids = list(self._stem.living(self._pid, self._starter.spare()))
                self._many = len(pids) > MANY
                if exceeded := self._meter.look(pids):
                    return self._end(*exceeded)
                self._hold_while_it_evades(pids)
                # at a random time: nobody knows when, and does what is not to be seen in between
                pause = HURRY if self._held else random.uniform(0, 2 * self._meter.pause)
                next_look = now + max(pause, 2 * (time.monotonic() - now))
            self._send_log(now)

    def _exit_status(self, events: dict[int, int]) -> int | None:
        """Return the child's exit status, negative for a signal, or None while it runs."""
        if self._child.exited and self._child.exited[0] not in events:
            return None
        [status] = self._stem.wait([self._pid], block=False)
        return status

    def _exited(self, status: int) -> End:
        if status == -signal.SIGXCPU and self._meter.too_much_cpu_time():
            return self._end("cpu_limit", self._limits.cpu_time)  # the kernel was first: RLIMIT_CPU, getrlimit(2)
        return self._end("exit", status)

    def _hold_while_it_evades(self, pids: Sequence[int]) -> None:
        """Stop the processes while looks may not find all, again and again: whatever still runs may let others go on.

        So it is where processes that nobody waits for have ended: what they had may be another's before it is seen.
        """
        if self._meter.is_evaded or self._stem.reaped_others:
            if not self._held:
                self._asleep = {pid for pid in pids if procfs.state(f"/proc/{pid}") == b"T"}
            self._held.update(self._stop())
            self._meter.held_since = min(self._meter.held_since, time.monotonic())
        elif self._held:
            self._held.update(self._processes())
            tree.resume(self._held - self._asleep)
            self._held.clear()
            self._meter.held_since = math.inf

    def _stop(self) -> list[int]:
        """Stop all processes of the task; return their ids."""
        uid = self._child.place.uid
        if self._many and uid is not None:
            tree.stop_user(uid)
        return self._stem.stop_all(self._starter.spare())

    def _end(self, kind: str, detail: Any = None, fault: str | None = None) -> End:
        self._stopped = self._stop()  # first: measuring takes long where many are busy
        phase, usage = self._phase, self._meter.close_phase()
        if len(self._done) < len(self._phases):
            self._done[phase] = usage
        return End(kind, phase, detail, fault)

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
        except ConnectionError:  # it has closed its end, and left answers of ours there
            return False
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
            self._take_claim(failed, self._log.shortened(one_line(str(mark["detail"]))), mark.get("fault"))
        elif mark["mark"] == "started" and not self._meter.has_begun:
            self._layers = [str(layer) for layer in mark["layers"]]
            self._meter.begin(own_shared_memory="shm" in self._layers)
        elif mark["mark"] == "done" and len(self._done) == len(self._phases):
            self._claim = self._end(*(self._meter.made_too_much() or ["done"]))
        elif mark["mark"] == self._phase and len(self._done) < len(self._phases):
            self._facts[self._phase] = {key: value for key, value in mark.items() if is_fact(value)}
            phase = self._phase
            self._done[phase] = Usage() if phase == "load" else self._meter.close_phase()
            if phase in STATES:
                self._tell({"progress": {"state": STATES[phase], "usages": _plain(self._done)}})

    def _take_claim(self, failed: str, detail: str, fault: Any) -> None:
        details = {
            "exception": detail,
            "outside": detail,
            "bad_predictions": detail,
            "memory": self._limits.memory,
            "output": self._limits.predictions,
        }
        if failed in details:
            self._claim = self._end(failed, details[failed], one_line(fault) if isinstance(fault, str) else None)

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
    """Return whether a mark's value is a line of text, a number or a few of them, as the result's shape is."""
    if isinstance(value, str):
        return value == one_line(value)
    if isinstance(value, list):
        return len(value) <= MOST_NUMBERS and all(type(n) is int and abs(n) < 2**63 for n in value)
    return isinstance(value, int) and abs(value) < 2**63


def one_line(text: str) -> str:
    """Return the first line of a text from outside, bounded, as any database takes it: no NUL, no lone surrogate."""
    [line, *_] = text[:SENTENCE_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines() or [""]
    return line.encode(errors="replace").decode()


def _plain(usages: dict[str, Usage]) -> dict[str, dict[str, float]]:
    return {phase: vars(usage) for phase, usage in usages.items()}


@cache
def _libraries() -> list[str]:
    paths = sysconfig.get_paths()
    return [paths[name] for name in ("purelib", "platlib", "stdlib")]


def _shortened(home: Path, packages: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Return what a log shows shorter: files and modules of these packages by their own names, libraries by theirs."""
    folders = (*(home / package for package in packages), *_libraries())
    modules = [(package, Path(name).stem) for package, names in packages.items() for name in names if is_code(name)]
    return {f"{path}/": "" for path in folders} | {f"{package}.{stem}": stem for package, stem in modules}
