"""What a process may set for itself: its user, capabilities, limits, who may inspect it, whom it outlives.

Follows setresuid(2), capabilities(7), getrlimit(2), prctl(2) and no_new_privs in the kernel's userspace-api.
"""

import os
import resource
import signal
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .system import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, PR_SET_TIMERSLACK, checked, libc, prctl

CAPABILITY_VERSION_3 = 0x20080522
CAP_SYS_PTRACE = 19
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
GRACE_CPU_TIME = 5  # seconds between SIGXCPU, which a submission can ignore, and SIGKILL
LOCKED_MEMORY = 64 * 1024  # bytes
TIMER_SLACK = 1_000_000  # nanoseconds; 50,000 by default


@dataclass(frozen=True)
class ProcessLimits:
    """What the kernel counts for a fold; None: unlimited.

    cpu : seconds, for each process. memory : bytes of each process's private memory (RLIMIT_DATA). processes : and
    threads, of the fold. file_size : bytes, of each file. open_files : of each process.
    """

    cpu: float | None = None
    memory: int | None = None
    processes: int | None = None
    file_size: int | None = None
    open_files: int | None = 1024


def protect() -> bool:
    """Keep others of the same user from reading or tracing this process (PR_SET_DUMPABLE); for all that hold secrets.

    Without effect (False) where the system has no such thing.
    """
    try:
        prctl(PR_SET_DUMPABLE, 0)
    except (OSError, AttributeError):
        return False
    return True


def die_first() -> None:
    """Offer this process and its descendants to the kernel when memory runs out, before any of ours (proc(5)).

    It covers memory that no limit of a process counts, such as what waits in sockets. Raise OSError.
    """
    Path("/proc/self/oom_score_adj").write_text("1000")


def wake_rarely() -> None:
    """Have timers of this process and its descendants end up to TIMER_SLACK late, together; raise OSError.

    Many processes that sleep for microseconds would, by interrupts, keep the processors from whoever keeps the limits.
    """
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK)


def dump_nothing() -> None:
    """Allow a core dump of a byte: as good as none, and unlike 0 it also keeps the program from it that takes dumps.

    Follows core(5). The filter keeps it so: see seccomp.py. Raise OSError.
    """
    with suppress(ValueError):  # there is a lower limit
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def change_user(uid: int) -> None:
    """Become this user, with the group of the same number alone; raise OSError."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def user_reaches(uid: int, files: Iterable[str]) -> bool:
    """Return whether a throwaway child can become this user and then read all the files."""
    child = os.fork()
    if child == 0:
        try:
            change_user(uid)
            for file in files:
                os.close(os.open(file, os.O_RDONLY))
            os._exit(0)
        finally:  # whatever the system said
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def drop_capabilities() -> None:
    """Give up every capability: those of root, where the user could not be changed, and of an own user namespace."""
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    checked(libc.capset(header, struct.pack("6I", 0, 0, 0, 0, 0, 0)))


def keep_tracing() -> None:
    """Give up every capability but CAP_SYS_PTRACE, which lasts through execve(2), as an ambient one; raise OSError."""
    header, kept = struct.pack("Ii", CAPABILITY_VERSION_3, 0), 1 << CAP_SYS_PTRACE
    checked(libc.capset(header, struct.pack("6I", kept, kept, kept, 0, 0, 0)))
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_PTRACE)


def forbid_new_privileges() -> None:
    """Make set-user-ID programs ordinary ones; Landlock and seccomp ask for it. Raise OSError."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def die_with(parent: int) -> None:
    """Have this process killed when its parent ends, end it now if that has; `change_user` would undo it."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(1)


def limit(limits: ProcessLimits, shared_user: bool) -> None:
    """Set the resource limits, soft and hard.

    RLIMIT_CPU leaves room for who counts all of the fold's processes exactly: the kernel counts whole ticks.
    RLIMIT_NPROC counts all of a user's threads: where the fold has no user of its own (`shared_user`), those that run
    now are added, and other folds' later ones still count. The kernel does not apply it to root at all.
    """
    processes = limits.processes
    if processes is not None and shared_user:
        running = count_threads(os.getuid())
        processes = processes + running if running else None  # without /proc it cannot be told
    wanted = {
        "CPU": None if limits.cpu is None else (cpu := int(1.1 * limits.cpu) + 2, cpu + GRACE_CPU_TIME),
        "DATA": limits.memory,
        "NPROC": processes,
        "FSIZE": limits.file_size,
        "NOFILE": limits.open_files,
        "MEMLOCK": LOCKED_MEMORY,
        "MSGQUEUE": 0,
        "RTPRIO": 0,
    }
    for name, value in wanted.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None and value is not None:
            soft, hard = value if isinstance(value, tuple) else (value, value)
            ceiling = resource.getrlimit(kind)[1]
            if ceiling != resource.RLIM_INFINITY:
                soft, hard = min(soft, ceiling), min(hard, ceiling)
            with suppress(OSError, ValueError):  # macOS refuses some
                resource.setrlimit(kind, (soft, hard))


def threads(pid: int) -> list[int]:
    """Return the ids of a process's threads; its own alone where /proc does not show them."""
    with suppress(OSError):
        return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
    return [pid]


def count_threads(uid: int) -> int:
    """Return how many threads the user's processes have, as far as /proc shows them."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == uid:
                count += (process / "task").stat().st_nlink - 2
        except OSError:
            continue
    return count
