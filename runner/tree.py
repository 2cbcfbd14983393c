"""The processes of one task, seen by the supervisor: what they use, and how all of them end.

They are forked from a stem (stem.py), which is a child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): whatever a task's
processes leave behind, by double fork, setsid or otherwise, becomes its child. So the tree below it is the task.
"""

import errno
import os
import resource
import signal
import stat
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

import psutil

from .sandbox.process import change_user
from .sandbox.system import PR_SET_CHILD_SUBREAPER, get_file, prctl

LINUX = os.path.isdir("/proc/self/task")
PAGE = resource.getpagesize()
MAPS = -1  # in the place of a device, for the kernel's own memory
MAP_SIZE = 256  # bytes of the kernel's record of a map, with its share of what leads to it
PIDFD_THREAD = os.O_EXCL  # since Linux 6.9: pidfd_open(2)
SOCKET_MEMORY = 425_984  # bytes, by default the most that one may have on its way: wmem_max of socket(7), doubled
TICK = os.sysconf("SC_CLK_TCK")
STOP_TIMEOUT = 0.2  # seconds
MOST_LOOKS = 200  # before what is found is killed, though there is always more


def become_subreaper() -> None:
    """Adopt what descendants of this process leave behind (Linux; elsewhere init adopts it)."""
    with suppress(OSError, AttributeError):
        prctl(PR_SET_CHILD_SUBREAPER, 1)


def descendants(root: int, spare: Container[int] = ()) -> Iterator[int]:
    """Yield the process ids below `root`, parents before their children, without `spare` and what is below it."""
    todo = [root]
    while todo:
        for pid in _children(todo.pop()):
            if pid not in spare:
                yield pid
                todo.append(pid)


def _children(pid: int) -> list[int]:
    if not LINUX:
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    pids = []
    with suppress(OSError):  # it ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:  # proc_pid_task(5)
                pids += map(int, file.read().split())
    return pids


def wait(pids: Iterable[int], block: bool) -> list[int | None]:
    """Reap children; return their exit statuses, negative for a signal, None where one still runs or is not ours."""
    return [_wait(pid, 0 if block else os.WNOHANG) for pid in pids]


def _wait(pid: int, options: int) -> int | None:
    with suppress(ChildProcessError):  # it was not adopted, where there is no subreaper
        reaped, status = os.waitpid(pid, options)
        return os.waitstatus_to_exitcode(status) if reaped else None
    return None


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
    """Stop everything below `root` but `spare` and what is below it; return the process ids, parents first.

    Each look stops all that it finds, again too: whatever still ran may have continued the others. What has ended is
    reaped first: a chain of processes that each start the next would make every look slower than the one before.
    """
    seen: set[int] = set()
    for _ in range(MOST_LOOKS):
        wait([pid for pid in _children(root) if pid not in spare], False)
        found = []
        for pid in descendants(root, spare):
            _signal(pid, signal.SIGSTOP)  # at once: the children that are looked for next are its last
            found.append(pid)
        if seen.issuperset(found):
            break
        seen.update(found)
    return found


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
    (a parent that ignores SIGCHLD: wait(2)), what was last seen of it counts.
    """

    def __init__(self, root: int, pids: Iterable[int]) -> None:
        self._root = root
        self._seen: dict[int, tuple[float, float]] = {}
        self._ended = self._missing = self._lost = 0.0
        self.begin = self.read(pids)

    def read(self, pids: Iterable[int]) -> float:
        """Return the seconds until now; `pids` are all processes of the task."""
        before, ended_before = self._seen, self._ended
        _own, self._ended = _cpu_times(self._root) or (0.0, ended_before)
        self._seen = {pid: times for pid in pids if (times := _cpu_times(pid))}
        gone = sum(sum(times) for pid, times in before.items() if pid not in self._seen)
        added = self._ended - ended_before
        added += sum(children - before.get(pid, (0, 0))[1] for pid, (_own, children) in self._seen.items())
        self._lost += max(self._missing - added, 0)  # not now: a parent may have been looked at just before it waited
        self._missing = max(gone - max(added - self._missing, 0), 0)
        return self._ended + self._lost + sum(map(sum, self._seen.values()))


def _cpu_times(pid: int) -> tuple[float, float] | None:
    """Return the CPU seconds of a process, and of the children that it has waited for; None where it is gone."""
    try:
        if not LINUX:
            times = psutil.Process(pid).cpu_times()
            return times.user + times.system, times.children_user + times.children_system
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = _fields(file.read())
        children = (int(fields[13]) + int(fields[14])) / TICK  # cutime, cstime
        return time.clock_gettime(~pid << 3 | 2), children  # CPUCLOCK_SCHED of a process: clock_getcpuclockid(3)
    except (OSError, psutil.Error):
        return None


def memory(first: int, pids: Iterable[int]) -> tuple[int, int]:
    """Return the resident bytes of processes: all of the first one's, what the others do not share; and all of all."""
    total = most = 0
    for pid in pids:
        resident, shared = _resident(pid)
        total += resident if pid == first else resident - shared
        most += resident
    return total, most


def _resident(pid: int) -> tuple[int, int]:
    """Return a process's resident bytes and those of them that others may share; zeros where it is gone."""
    with suppress(OSError, psutil.Error):
        if not LINUX:
            return psutil.Process(pid).memory_info().rss, 0
        with open(f"{_folder(pid)}/statm") as file:  # proc_pid_statm(5)
            _size, resident, shared, *_ = map(int, file.read().split())
        return resident * PAGE, shared * PAGE
    return 0, 0


def _folder(pid: int) -> str:
    """Return the folder that tells of a process: that of another thread, where its first has ended and others go on."""
    folder = f"/proc/{pid}"
    with suppress(OSError), open(f"{folder}/stat", "rb") as file:
        if _fields(file.read())[0] == b"Z":
            for thread in _threads(pid):
                with suppress(OSError), open(f"{folder}/task/{thread}/stat", "rb") as file:
                    if _fields(file.read())[0] not in b"ZX":
                        return f"{folder}/task/{thread}"
    return folder


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def _fields(stat: bytes) -> list[bytes]:
    """Return what follows the name, which may hold any byte: proc_pid_stat(5)."""
    return stat.rpartition(b")")[2].split()


def shared_memory(first: int, pids: Iterable[int]) -> int:
    """Return the resident bytes of memory that processes but the first may share, counted for each."""
    return sum(_status(pid, b"RssShmem:") for pid in pids if pid != first)


Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class OutOfSight:
    """Bytes of what processes hold that neither a folder nor their resident memory shows.

    files : those without a path. memory : files that are memory, sockets, and, by process, the kernel's own.
    """

    files: dict[Identity, int] = field(default_factory=dict)
    memory: dict[Identity, int] = field(default_factory=dict)

    def add(self, status: os.stat_result, known: Container[Identity]) -> None:
        """Count a file or socket that is none of the `known` ones."""
        if stat.S_ISSOCK(status.st_mode):
            self.memory[identity(status)] = SOCKET_MEMORY
        elif not status.st_nlink and stat.S_ISREG(status.st_mode) and identity(status) not in known:
            kind = self.memory if status.st_dev == memory_device() else self.files
            kind[identity(status)] = status.st_blocks * 512


def open_out_of_sight(pids: Iterable[int], known: Container[Identity]) -> OutOfSight:
    """Return what the processes have open, as far as we may look into them.

    As root, or with CAP_SYS_PTRACE (sandbox/oversight.py). A socket counts with the most that it may hold.
    """
    found = OutOfSight()
    for pid in pids:
        for status in _open_files(pid):
            found.add(status, known)
    return found


def mapped_out_of_sight(pids: Iterable[int], known: Container[Identity]) -> OutOfSight:
    """Return what the processes have mapped, and their page tables and records of maps.

    With CAP_SYS_PTRACE alone, the records and not the files are seen; without it, the page tables. It may take long
    where many processes are busy: they change their maps meanwhile.
    """
    found = OutOfSight()
    for pid in pids:
        folder = _folder(pid)
        maps: list[bytes] = []
        with suppress(OSError), open(f"{folder}/maps", "rb") as file:
            maps = file.readlines()
        found.memory[MAPS, pid] = _status(pid, b"VmPTE:") + MAP_SIZE * len(maps)
        removed = [line.split()[0].split(b"-") for line in maps if line.endswith(b" (deleted)\n")]
        for status in _found(f"/proc/{pid}/map_files/{int(start, 16):x}-{int(end, 16):x}" for start, end in removed):
            found.add(status, known)  # proc_pid_map_files(5)
    return found


def _open_files(pid: int) -> Iterator[os.stat_result]:
    """Yield what the process has open, as far as we may see it."""
    folder = _folder(pid)
    try:
        yield from _found(f"{folder}/fd/{fd}" for fd in os.listdir(f"{folder}/fd"))
    except PermissionError:  # the listing is for the owner of the process alone, who is root: proc_pid_fd(5)
        with suppress(OSError, AttributeError):
            thread = int(folder.rpartition("/")[2])
            process = os.pidfd_open(thread, 0 if thread == pid else PIDFD_THREAD)
            try:
                yield from _copies(process, range(_status(pid, b"FDSize:")))
            finally:
                os.close(process)
    except OSError:  # it has ended
        return


def _copies(process: int, numbers: Iterable[int]) -> Iterator[os.stat_result]:
    """Yield what is open under these numbers in the process that the descriptor is of. Raises OSError if forbidden."""
    for number in numbers:
        try:
            fd = get_file(process, number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
        else:
            status = os.fstat(fd)
            os.close(fd)
            yield status


def _found(links: Iterable[str]) -> Iterator[os.stat_result]:
    for link in links:
        with suppress(OSError):
            yield os.stat(link)


@cache
def memory_device() -> int | None:
    """Return the device of files that are memory (memfd_create(2), shared maps), None where there is none."""
    try:
        with os.fdopen(os.memfd_create("datarun"), "rb") as file:
            return os.fstat(file.fileno()).st_dev
    except (AttributeError, OSError):
        return None


def identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def proportional_memory(pids: Iterable[int]) -> int | None:
    """Return the proportional set size of processes in bytes, or None where the kernel does not let us read it.

    It takes long where many of them are busy.
    """
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
        except (FileNotFoundError, ProcessLookupError):
            if len(_threads(pid)) > 1:  # its first thread has ended, others go on
                return None
        except OSError:
            return None
    return total


def peak_memory(pid: int) -> int:
    """Return the most resident bytes that a process has had so far; 0 where unknown."""
    return _status(pid, b"VmHWM:")


def data_size() -> int:
    """Return this process's private writable memory in bytes, what RLIMIT_DATA counts; 0 where unknown."""
    return _status(os.getpid(), b"VmData:")


def _status(pid: int, field: bytes) -> int:
    """Return a field in bytes, where it has a unit."""
    with suppress(OSError), open(f"{_folder(pid)}/status", "rb") as file:  # proc_pid_status(5)
        for line in file:
            if line.startswith(field):
                _name, number, *unit = line.split()
                return int(number) * (1024 if unit else 1)
    return 0
