"""What /proc tells of a process, or psutil where there is none. A process that has ended has nothing: no error."""

import os
import resource
import time
from contextlib import suppress

import psutil

LINUX = os.path.isdir("/proc/self/task")
PAGE = resource.getpagesize()
TICK = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Return the process ids of the children of all its threads."""
    if not LINUX:
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    pids = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:  # proc_pid_task(5)
                pids += map(int, file.read().split())
    return pids


def folder(pid: int) -> str:
    """Return the folder that tells of a process: that of another thread, where its first has ended and others go on."""
    if _state(f"/proc/{pid}") == b"Z":
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                if _state(f"/proc/{thread}") not in b"ZX":
                    return f"/proc/{thread}"
    return f"/proc/{pid}"


def _state(folder: str) -> bytes:
    return (stat(folder) or [b"X"])[0]


def stat(folder: str) -> list[bytes]:
    """Return what follows the name, which may hold any byte: proc_pid_stat(5), from its third field on."""
    with suppress(OSError), open(f"{folder}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()
    return []


def status(pid: int, field: bytes) -> int:
    """Return a field of proc_pid_status(5), in bytes where it has a unit; 0 where unknown."""
    with suppress(OSError), open(f"{folder(pid)}/status", "rb") as file:
        for line in file:
            if line.startswith(field):
                _name, number, *unit = line.split()
                return int(number) * (1024 if unit else 1)
    return 0


def resident(pid: int) -> tuple[int, int]:
    """Return a process's resident bytes, and those of them that others may share."""
    with suppress(OSError, psutil.Error):
        if not LINUX:
            return psutil.Process(pid).memory_info().rss, 0
        with open(f"{folder(pid)}/statm") as file:  # proc_pid_statm(5)
            _size, pages, shared, *_ = map(int, file.read().split())
        return pages * PAGE, shared * PAGE
    return 0, 0


def proportional(pid: int) -> int | None:
    """Return a process's proportional set size in bytes, or None where the kernel does not let us read it."""
    try:
        with open(f"{folder(pid)}/smaps_rollup") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
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
