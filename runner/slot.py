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

from . import out_of_sight, procfs, sandbox, tree, wire
from .folders import MOST_FILES, copy_files, folder_size, free_space, make_folders, wipe
from .log import Log
from .look import Look, start_threads
from .posted import DATA_FUNCTIONS, ORGANISER, PACKAGE, is_code
from .settings import Place, Settings
from .stem import NICENESS, Stem, serve
from .task import End, Limits, Usage
from .waiting import Starter

SHORT = 0.1  # seconds; a shorter task has the cores for itself, and the next child gets ready after it
WATCH_INTERVAL = 0.05  # seconds between two looks at memory, on average
MANY = 16  # processes; stopping more of them one by one may take long
HURRY = 0.005  # seconds until the next look where the disk fills
FILLING = 1 / 4  # of a task's limit, in files, between two looks
FILES_INTERVAL = 0.25  # seconds between two looks at the files
MAPS_INTERVAL = 0.5  # seconds between two looks at what is mapped
FILES_SHARE = 1 / 3  # of the time that may go into each of these
LOG_INTERVAL = 1.0  # seconds between two copies of the growing log
PIPE_SIZE = 65536  # bytes read at once from the log
MOST_PIECES = 1024  # of the log between two looks at the limits; a pipe holds at most 256, of a byte each: pipe(2)
MARK_LENGTH = 65536  # bytes; a longer mark is none of ours
SLOW = 0.5  # seconds that a look may take before the processes stand still for it
EXACT_SHARE = 0.25  # of the time that may go into exact looks at memory
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
        self._allowance = math.inf  # bytes, known when the child has started
        self._exact_look = Look(self._too_much_exactly, 0.0, EXACT_SHARE)
        self._files_look = Look(self._too_many_files, FILES_INTERVAL, FILES_SHARE)
        self._folder_look = Look(self._too_much_in_folder, math.inf, FILES_SHARE)  # that nothing else holds up
        self._maps_look = Look(out_of_sight.mapped, MAPS_INTERVAL, FILES_SHARE)
        self._seen_maps = out_of_sight.OutOfSight()  # what is mapped, when it was last looked at
        self._opened_memory = 0  # bytes of the kernel's for what is open, likewise
        self._memory_files = 0  # bytes of files that are memory, likewise
        self._many = False  # processes, when they were last looked at
        self._held: set[int] = set()  # the processes that stand still until looks are over
        self._free = free_space(self._settings.scratch)

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
        self._start = self._since = time.monotonic()
        self._cpu_time = tree.CpuTime(self._stem.pid, list(self._processes()))
        self._cpu_start = self._cpu_since = self._cpu_time.begin
        self._memory = self._hwm = tree.peak_memory(self._pid)
        mapped = self._mapped = sum(os.fstat(fd).st_size for fd in self._files)
        handed = [*self._files, *(file.fileno() for file in (self._result, *self._outputs))]
        self._known = {out_of_sight.identity(os.fstat(fd)) for fd in handed}  # files without a path that are ours
        self._disk = self._limits.disk + (mapped if self._kind == "split" else 0)  # posted files are copied
        self._child.start(self._kind, self._job, self._process_limits(), mapped, handed)
        return self._watch(self._child.log, self._child.marks)

    def _process_limits(self) -> sandbox.ProcessLimits:
        limits = self._limits
        return sandbox.ProcessLimits(
            cpu=None if math.isinf(limits.cpu_time) else limits.cpu_time,
            memory=limits.memory,
            processes=limits.processes,
            file_size=max(self._disk, limits.predictions),
        )

    def _watch(self, log: int, marks: socket.socket) -> End:
        """Wait for the task's end, by itself or by ours."""
        poll = select.poll()
        for fd in (log, marks.fileno(), self._control.fileno(), *self._child.exited):
            poll.register(fd, select.POLLIN)
        next_look = self._start + WATCH_INTERVAL
        deadline = self._start + self._limits.wall_time
        while True:
            if self._outbox:
                poll.modify(self._control.fileno(), select.POLLIN | select.POLLOUT)
            events = dict(poll.poll(1000 * max(min(next_look - time.monotonic(), WATCH_INTERVAL), 0)))
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
                if self._too_much_memory(pids):
                    return self._end("memory_limit", self._limits.memory)
                if self._too_much_cpu_time(pids):
                    return self._end("cpu_limit", self._limits.cpu_time)
                self._seen_maps = self._maps_look(pids, self._known, self._limits.memory) or self._seen_maps
                filling = self._is_disk_filling()
                exceeded = self._files_look(pids, self._seen_maps)
                if exceeded := exceeded or self._folder_look({}, at_once=filling):
                    return self._end(*exceeded)
                self._hold_while_looks_take_long(pids)
                pause = HURRY if filling else WATCH_INTERVAL  # what it finds is soon there
                pause = random.uniform(0, 2 * pause)  # nobody knows when, and does what is not to be seen in between
                next_look = now + max(pause, 2 * (time.monotonic() - now))
            self._send_log(now)

    def _exit_status(self, events: dict[int, int]) -> int | None:
        """Return the child's exit status, negative for a signal, or None while it runs."""
        if self._child.exited and self._child.exited[0] not in events:
            return None
        [status] = self._stem.wait([self._pid], block=False)
        return status

    def _exited(self, status: int) -> End:
        if status == -signal.SIGXCPU and self._too_much_cpu_time(list(self._processes())):
            return self._end("cpu_limit", self._limits.cpu_time)  # the kernel was first: RLIMIT_CPU, getrlimit(2)
        return self._end("exit", status)

    def _hold_while_looks_take_long(self, pids: Sequence[int]) -> None:
        """Stop the processes while a look takes long, again and again: they may hold it up, and use more meanwhile."""
        if any(look.takes > SLOW for look in (self._exact_look, self._maps_look, self._files_look)):
            by_itself = {pid for pid in pids if pid not in self._held and procfs.state(f"/proc/{pid}") == b"T"}
            self._held |= set(self._stop()) - by_itself
        elif self._held:
            tree.resume(self._held)
            self._held = set()

    def _stop(self) -> list[int]:
        """Stop all processes of the task; return their ids."""
        uid = self._child.place.uid
        if self._many and uid is not None:
            tree.stop_user(uid)
        return self._stem.stop_all(self._starter.spare())

    def _end(self, kind: str, detail: Any = None, fault: str | None = None) -> End:
        self._stopped = self._stop()  # first: measuring takes long where many are busy
        phase, usage = self._phase, self._close_phase()
        if len(self._done) < len(self._phases):
            self._done[phase] = usage
        return End(kind, phase, detail, fault)

    # Measuring

    def _close_phase(self) -> Usage:
        """Return what the present phase has taken until now, and let the next one begin."""
        pids = list(self._processes())
        now, cpu = time.monotonic(), self._cpu_time.read(pids)
        sample = self._sample_memory(pids)
        hwm = tree.peak_memory(self._pid)
        if hwm > self._hwm:  # this process's peak, between two samples, lies in this phase
            self._memory = max(self._memory, hwm)
        usage = Usage(now - self._since, cpu - self._cpu_since, min(self._memory, self._allowance))
        self._since, self._cpu_since, self._hwm, self._memory = now, cpu, hwm, sample
        return usage

    def _sample_memory(self, pids: Collection[int]) -> int:
        self._resident = tree.memory(self._pid, pids)
        self._memory = max(self._memory, self._resident.least)
        return self._resident.least

    def _too_much_memory(self, pids: Sequence[int]) -> bool:
        self._sample_memory(pids)
        unseen = self._opened_memory + sum(self._seen_maps.kernel.values())
        if memory_files := self._memory_files + self._size_of_labels():
            unseen += max(memory_files - tree.shared_memory(pids), 0)  # as far as they are not resident
        if unseen > self._limits.memory:
            return True
        allowance = self._allowance - unseen
        least, most = self._resident.least, self._resident.most
        if least <= allowance and self._resident.shared_too > allowance:
            shared = tree.shared_memory([pid for pid in pids if pid != self._pid])
            least, most = least + shared, most + shared
        return most > allowance and bool(self._exact_look(pids, allowance, least))

    def _too_much_cpu_time(self, pids: Collection[int]) -> bool:
        return self._cpu_time.read(pids) - self._cpu_start > self._limits.cpu_time

    def _too_much_exactly(self, pids: Collection[int], allowance: float, least: float) -> bool:
        """Whether processes use more than is allowed; where it cannot be told exactly, whether they use so `least`."""
        exact = tree.proportional_memory(pids, allowance)
        return (least if exact is None else exact) > allowance

    def _too_many_files(self, pids: Iterable[int], mapped: out_of_sight.OutOfSight) -> tuple[str, int] | None:
        """Return the kind of end and the limit, where the task's files are beyond one; note its memory out of sight.

        The folder is looked at last: what is removed meanwhile must not count twice.
        """
        opened = out_of_sight.opened(pids, self._known)
        self._opened_memory = sum(opened.kernel.values())
        self._memory_files = sum((opened.memory | mapped.memory).values())
        return self._too_much_in_folder(opened.files | mapped.files)

    def _too_much_in_folder(self, removed: Mapping[out_of_sight.Identity, int]) -> tuple[str, int] | None:
        """Return the same for what is in the folder, and files that were `removed`, of these sizes in bytes."""
        size, files = folder_size(self._home, self._disk)
        size += sum(removed.values()) + max(_size_on_disk(self._result) - self._limits.predictions, 0)
        if max(size, self._size_of_features()) > self._disk:
            return "disk_limit", self._limits.disk
        return ("file_limit", MOST_FILES) if files > MOST_FILES else None

    def _size_of_labels(self) -> int:
        """Return the bytes that a split's labels take, in memory: its process may write to that file what it likes."""
        return sum(_size_on_disk(file) for file in self._outputs[:1])

    def _size_of_features(self) -> int:
        """Return the bytes that a split's features take: it may write as much to these as to its other files."""
        return sum(_size_on_disk(file) for file in self._outputs[1:])

    def _made_too_much(self) -> tuple[str, int] | None:
        """Return the kind of end and the limit, where what a split has made is beyond one, between two looks maybe."""
        if self._size_of_labels() > self._limits.memory:
            return "memory_limit", self._limits.memory
        return ("disk_limit", self._limits.disk) if self._size_of_features() > self._disk else None

    def _is_disk_filling(self) -> bool:
        """Whether the disk has lost so much room since this was last true that the task may be near its limit."""
        free = free_space(self._settings.scratch)
        filling = self._free - free > self._disk * FILLING
        if filling or free > self._free:
            self._free = free
        return filling

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
        elif mark["mark"] == "started" and math.isinf(self._allowance):
            self._layers = [str(layer) for layer in mark["layers"]]
            self._allowance = self._sample_memory([self._pid]) + self._mapped + self._limits.memory
        elif mark["mark"] == "done" and len(self._done) == len(self._phases):
            self._claim = self._end(*(self._made_too_much() or ["done"]))
        elif mark["mark"] == self._phase and len(self._done) < len(self._phases):
            self._facts[self._phase] = {key: value for key, value in mark.items() if is_fact(value)}
            phase = self._phase
            self._done[phase] = Usage() if phase == "load" else self._close_phase()
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


def _size_on_disk(file: BinaryIO) -> int:
    """Return the bytes of a file's blocks, and not its length: of those that nothing was written to, it has none."""
    return os.fstat(file.fileno()).st_blocks * 512


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
