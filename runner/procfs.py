"""What /proc tells of a process, or psutil where there is none. A process that has ended has nothing: no error."""

import math
import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

LINUX = os.path.isdir("/proc/self/task")
PAGE = resource.getpagesize()
TICK = os.sysconf("SC_CLK_TCK")
PIECE = 65536  # bytes read at once


def read(path: str) -> bytes:
    """Return all of a file; `open` would take twice as long for the few bytes that most of these have."""
    fd = os.open(path, os.O_RDONLY)
    try:
        pieces = []
        while piece := os.read(fd, PIECE):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def lines(path: str) -> Iterator[bytes]:
    """Yield the lines of a file that may be long, read piece by piece; none where it cannot be read."""
    with suppress(OSError), open(path, "rb", buffering=PIECE) as file:
        for line in file:
            yield line.rstrip(b"\n")


def children(pid: int) -> list[int]:
    """Return the process ids of the children of all its threads."""
    if not LINUX:
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    pids = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            pids += map(int, read(f"/proc/{pid}/task/{thread}/children").split())  # proc_pid_task(5)
    return pids


def folder(pid: int) -> str:
    """Return the folder that tells of a process: that of another thread, where its first has ended and others go on."""
    if state(f"/proc/{pid}") == b"Z":
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                if state(f"/proc/{thread}") not in b"ZX":
                    return f"/proc/{thread}"
    return f"/proc/{pid}"


def state(folder: str) -> bytes:
    """Return the letter of what a process or thread does: proc_pid_stat(5)."""
    return (stat(folder) or [b"X"])[0]


def stat(folder: str) -> list[bytes]:
    """Return what follows the name, which may hold any byte: proc_pid_stat(5), from its third field on."""
    with suppress(OSError):
        return read(f"{folder}/stat").rpartition(b")")[2].split()
    return []


def age(pid: int) -> float:
    """Return the seconds that a process has lived, give or take half a tick; infinity where it cannot be told."""
    fields = stat(f"/proc/{pid}")
    return age_of(fields) if fields else math.inf


def age_of(fields: list[bytes]) -> float:
    """Return the same by what `stat` has told."""
    started = (int(fields[19]) + 0.5) / TICK  # since the boot, cut to whole ticks
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - started, 0.0)


def status(pid: int, field: bytes) -> int:
    """Return a field of proc_pid_status(5), in bytes where it has a unit; 0 where unknown."""
    with suppress(OSError):
        text = read(f"/proc/{pid}/status")
        if b"\nState:\tZ" in text:
            text = read(f"{folder(pid)}/status")
        _before, name, line = text.partition(b"\n" + field)
        if name:
            number, *unit = line.partition(b"\n")[0].split()
            return int(number) * (1024 if unit else 1)
    return 0


def resident(pid: int) -> tuple[int, int]:
    """Return a process's resident bytes, and those of them that others may share."""
    with suppress(OSError, psutil.Error):
        if not LINUX:
            return psutil.Process(pid).memory_info().rss, 0
        pages, shared = _resident_pages(f"/proc/{pid}")
        if not pages:
            pages, shared = _resident_pages(folder(pid))
        return pages * PAGE, shared * PAGE
    return 0, 0


def _resident_pages(folder: str) -> tuple[int, int]:
    _size, pages, shared, *_ = map(int, read(f"{folder}/statm").split())  # proc_pid_statm(5)
    return pages, shared


def proportional(pid: int) -> tuple[int, int] | None:
    """Return a process's proportional set size in bytes, and that of shared memory: before Linux 5.9, at most.

    None where the kernel does not let us read it.
    """
    try:
        text = map(bytes.split, read(f"{folder(pid)}/smaps_rollup").splitlines())
        sizes = {words[0]: int(words[1]) * 1024 for words in text if words[0] in (b"Pss:", b"Pss_Shmem:")}
        shared = sizes[b"Pss_Shmem:"] if b"Pss_Shmem:" in sizes else status(pid, b"RssShmem:")
        return sizes.get(b"Pss:", 0), shared
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    except OSError:
        return None


def cpu_times(pid: int) -> tuple[float, float] | None:
    """Return the CPU seconds of a process, and of the children that it has waited for; None where it is gone."""
    with suppress(OSError, psutil.Error):
        if not LINUX:
            times = psutil.Process(pid).cpu_times()
            return times.user + times.system, times.children_user + times.children_system
        if fields := stat(f"/proc/{pid}"):
            waited = (int(fields[13]) + int(fields[14])) / TICK  # cutime, cstime
            return time.clock_gettime(~pid << 3 | 2), waited  # CPUCLOCK_SCHED of a process: clock_getcpuclockid(3)
    return None
