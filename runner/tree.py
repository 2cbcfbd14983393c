"""The processes of one task, seen by the supervisor: what they use, and how all of them end.

They are forked from a stem (stem.py), which is a child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): whatever a task's
processes leave behind, by double fork, setsid or otherwise, becomes its child. So the tree below it is the task.
"""

import math
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from . import procfs
from .sandbox.process import change_user
from .sandbox.system import PR_SET_CHILD_SUBREAPER, prctl, share_memory

STOP_TIMEOUT = 0.2  # seconds
LONGEST_WAIT = 5.0  # seconds that a call waits for ends: to take down much memory of the kernel takes long
JUST_FORKED = 0.25  # seconds
N_PROCESSORS = os.cpu_count() or 1
MOST_LOOKS = 200  # before what is found is killed, though there is always more


def become_subreaper() -> None:
    """Adopt what descendants of this process leave behind (Linux; elsewhere init adopts it)."""
    with suppress(OSError, AttributeError):
        prctl(PR_SET_CHILD_SUBREAPER, 1)


def descendants(root: int, spare: Container[int] = ()) -> Iterator[int]:
    """Yield the process ids below `root`, parents before their children, without its children `spare` and theirs."""
    return with_descendants(pid for pid in procfs.children(root) if pid not in spare)


def with_descendants(pids: Iterable[int]) -> Iterator[int]:
    """Yield processes and all below them, parents before their children."""
    todo: list[int] = []
    while True:
        for pid in pids:
            yield pid
            todo.append(pid)
        if not todo:
            return
        pids = procfs.children(todo.pop())


def wait(pids: Iterable[int], block: bool) -> list[int | None]:
    """Reap children; return their exit statuses, negative for a signal, None where one still runs or is not ours.

    To `block` is to wait for their ends, LONGEST_WAIT at most where the system can say that they have ended.
    """
    deadline = time.monotonic() + LONGEST_WAIT
    return [_wait(pid, deadline if block else None) for pid in pids]


def _wait(pid: int, deadline: float | None) -> int | None:
    options = os.WNOHANG
    with suppress(ChildProcessError):  # it was not adopted, where there is no subreaper
        if deadline is not None:
            ended = open_process(pid)
            options = os.WNOHANG if ended else 0
            select.select(ended, [], [], max(deadline - time.monotonic(), 0) if ended else 0)
            for fd in ended:
                os.close(fd)
        reaped, status = os.waitpid(pid, options)
        return os.waitstatus_to_exitcode(status) if reaped else None
    return None


def open_process(pid: int) -> list[int]:
    """Return a descriptor that becomes readable when the process ends (pidfd_open(2)), or none where there is none."""
    try:
        return [os.pidfd_open(pid)]
    except (AttributeError, OSError):
        return []


Wait = Callable[[Sequence[int], bool], object]


def end_all(root: int, spare: Container[int] = (), wait: Wait = wait) -> None:
    """Kill and reap everything below `root` but `spare` and what is below it; `wait` is that of the process `root`.

    Everything is stopped first, until nothing new appears: killing without stopping never catches up with a fork bomb.
    """
    while stopped := stop_all(root, spare, wait):
        for pid in stopped:
            _signal(pid, signal.SIGKILL)
        wait(stopped, True)


def stop_all(root: int, spare: Container[int] = (), wait: Wait = wait) -> list[int]:
    """Stop everything below `root` but `spare` and what is below it; return the ids of all that it has stopped.

    Each look stops all that it finds, again too: whatever still ran may have continued the others. A look misses who is
    adopted meanwhile, so what an earlier one has found is told, too. What has ended is reaped first: a chain of
    processes that each start the next would make every look slower than the one before.
    """
    stopped: dict[int, None] = {}  # in order
    for _ in range(MOST_LOOKS):
        wait([pid for pid in procfs.children(root) if pid not in spare], False)
        known = len(stopped)
        for pid in descendants(root, spare):
            _signal(pid, signal.SIGSTOP)  # at once: the children that are looked for next are its last
            stopped[pid] = None
        if len(stopped) == known:
            break
    return list(stopped)


def resume(pids: Iterable[int]) -> None:
    """Let processes go on that were stopped."""
    for pid in pids:
        with suppress(PermissionError):  # it is gone, and its number somebody else's
            _signal(pid, signal.SIGCONT)


def stop_user(uid: int) -> None:
    """As root, stop all processes of a task's own user at the same instant, however many there are: kill(2), pid -1.

    A child that has become this user does it, and so reaches nobody else. If they stop it first, it is killed.
    """
    pid = os.fork()
    if pid == 0:
        try:
            change_user(uid)
            if os.getresuid() == (uid, uid, uid) != (0, 0, 0):
                os.kill(-1, signal.SIGSTOP)
        finally:  # whatever the system said
            os._exit(0)
    deadline = time.monotonic() + STOP_TIMEOUT
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.005)


def _signal(pid: int, sig: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sig)


class CpuTime:
    """Adds up the CPU time of all processes of a task below the process `root`, ended ones included.

    What a process took is added to its parent when that waits for it. Where the kernel was told to forget it instead
    (a parent that ignores SIGCHLD: wait(2)), what was last seen of it counts, and all that those can have taken since
    which are gone: a processor each, as far as there are so many.
    """

    def __init__(self, root: int, pids: Collection[int]) -> None:
        self._root = root
        self._seen: dict[int, tuple[float, float]] = {}
        self._ended = self._lost = 0.0
        self._missing = self._guess = 0.0  # what those took that are gone, if not yet added: as was seen, and in all
        self._read_at = time.monotonic()
        self.begin = self.read(pids)

    def read(self, pids: Collection[int]) -> float:
        """Return the seconds until now; `pids` are all processes of the task."""
        before, ended_before, read_before = self._seen, self._ended, self._read_at
        self._read_at = time.monotonic()
        passed = self._read_at - read_before
        unlisted = [pid for pid in before.keys() - pids if procfs.age(pid) > passed]  # as others were ending
        _own, self._ended = procfs.cpu_times(self._root) or (0.0, ended_before)
        self._seen = {pid: times for pid in (*pids, *unlisted) if (times := procfs.cpu_times(pid))}
        gone = {pid: sum(times) for pid, times in before.items() if pid not in self._seen}
        added = self._ended - ended_before
        added += sum(children - before.get(pid, (0, 0))[1] for pid, (_own, children) in self._seen.items())
        rest = added - self._missing
        missing, guess = (-rest, self._guess - added) if rest < 0 else (0.0, 0.0)
        if missing > 1 / procfs.TICK:  # less may be added later: what a parent waited for is told in whole ticks
            self._lost += guess
            missing = guess = 0.0
        left = max(rest, 0)
        self._missing = missing + max(sum(gone.values()) - left, 0)
        since = min(len(gone), N_PROCESSORS) * passed
        self._guess = guess + max(sum(gone.values()) + since - left, 0)
        return self._ended + self._lost + sum(map(sum, self._seen.values()))


def _just_forked(pids: Collection[int], within: float = JUST_FORKED) -> dict[int, int]:
    """Return the processes that were forked from another of them `within` the last seconds, with that one.

    Started by vfork(2), as programs are, they use its memory until they execute something; started by fork(2), they
    share it as long as neither writes to it.
    """
    if len(pids) < 2 or not procfs.LINUX:
        return {}
    stats = {pid: fields for pid in pids if (fields := procfs.stat(f"/proc/{pid}"))}
    parents = {pid: int(fields[1]) for pid, fields in stats.items()}

    def has_just_been_forked(pid: int) -> bool:
        parent = stats.get(parents[pid])
        return parent is not None and procfs.age_of(stats[pid]) < within and stats[pid][20] == parent[20]  # vsize

    return {pid: parents[pid] for pid in stats if has_just_been_forked(pid)}


@dataclass(frozen=True)
class Resident:
    """Resident memory of processes, in bytes.

    least : all of the first one's, and what the others do not share, but for those that have just been forked: these
    may have none of their own. most : with these. shared_too : all of all.
    """

    least: int
    most: int
    shared_too: int


def memory(first: int, pids: Collection[int]) -> Resident:
    """Return what the processes, of which one is the `first`, have in memory."""
    just_forked = _just_forked(pids)
    least = most = shared_too = 0
    for pid in pids:
        resident, shared = procfs.resident(pid)
        own = resident if pid == first else resident - shared
        least += 0 if pid in just_forked else own
        most += own
        shared_too += resident
    return Resident(least, most, shared_too)


def page_tables(pids: Collection[int]) -> int:
    """Return the bytes of the processes' page tables, which are resident nowhere."""
    return sum(procfs.status(pid, b"VmPTE:") for pid in pids)


def shared_memory(pids: Collection[int]) -> list[int]:
    """Return the resident bytes of memory that may be shared of each of the processes, but for those just forked."""
    return [procfs.status(pid, b"RssShmem:") for pid in set(pids) - _just_forked(pids).keys()]


def proportional_memory(pids: Collection[int], enough: float, files: int = 0) -> int | None:
    """Return the proportional set size of processes in bytes, or None where the kernel does not let us read it.

    It takes long where many of them are busy: the largest come first, and with more than `enough` it ends. Of `files`,
    bytes of files that are memory, what is resident in no process is added.
    """
    total = resident = 0
    forked = _just_forked(pids, math.inf)  # a program on a slow disk may start for long
    borrowers = {pid for pid, parent in forked.items() if _share_memory(pid, parent)}
    for pid in sorted(set(pids) - borrowers, key=procfs.resident, reverse=True):
        if (sizes := procfs.proportional(pid)) is None:
            return None
        total += sizes[0]
        resident += sizes[1]
        if total > enough:
            break
    return total + max(files - resident, 0)


def _share_memory(pid: int, parent: int) -> bool:
    try:
        return share_memory(pid, parent)
    except OSError:  # one of them is gone, or it cannot be told
        return True


def peak_memory(pid: int) -> int:
    """Return the most resident bytes that a process has had so far; 0 where unknown."""
    return procfs.status(pid, b"VmHWM:")


def data_size() -> int:
    """Return this process's private writable memory in bytes, what RLIMIT_DATA counts; 0 where unknown."""
    return procfs.status(os.getpid(), b"VmData:")
