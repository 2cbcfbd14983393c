"""The restrictions that a fold's child puts on itself: strangers' code can hurt only its own fold.

Each layer is a module or function of its own and holds without the others; a layer that the kernel refuses is left out,
and `level` says what the rest is worth. `python -m runner.selftest` tries the attacks that they are there to stop.

    prepared = prepare(...)                 # once, in the zygote
    applied = restrict(policy, prepared)    # in each forked child, before it sees the submission
    applied |= limit(limits, policy, applied)   # where the policy has no limits: as soon as they are known
"""

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import landlock, namespaces, process, seccomp
from .leftovers import sweep_shared_memory, sweep_user
from .namespaces import open_ways
from .process import ProcessLimits, die_with, protect, threads
from .system import PR_SET_DUMPABLE, prctl

__all__ = [
    "LAYERS", "LEVELS", "Policy", "Prepared", "ProcessLimits", "die_with", "level", "limit", "open_ways", "prepare",
    "protect", "protecting", "readable_paths", "restrict", "sweep_shared_memory", "sweep_user", "threads",
]  # fmt: skip

LAYERS = {
    "network": "namespaces for network and IPC",
    "shm": "a /dev/shm of the fold's own, in a mount namespace",
    "traces": "read-only mounts and no counters there: what one fold does leaves no traces for others",
    "uid": "a user of the slot's own",
    "limits": "resource limits",
    "capabilities": "no capabilities",
    "landlock": "Landlock for files and tracing",
    "landlock_tcp": "Landlock for TCP",
    "landlock_scope": "Landlock for signals and abstract sockets",
    "seccomp": "a filter of system calls",
    "dumpable": "memory and descriptors closed to others of the same user",
}
LEVELS = ("none", "partial", "strong")  # what the layers are worth, in order
LINUX = sys.platform == "linux"

SYSTEM = [
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/proc", "/sys/fs/cgroup", "/sys/devices/system",
    "/sys/kernel/mm/transparent_hugepage", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
    "/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group",
    "/etc/mime.types", "/etc/os-release", "/etc/debian_version", "/etc/fonts", "/etc/ssl/openssl.cnf",
]  # fmt: skip
SCRATCH_LIKE = ["/dev/null", "/dev/shm"]


@dataclass(frozen=True)
class Policy:
    """What one fold may do.

    scratch : the fold's own folder, all it may write to; the slot gives it to `uid`.
    read : the fold's own input, on top of what `prepare` got.
    uid : a user and group of the slot's own, where we are root; None keeps ours.
    parent : the process with whose end the fold ends.
    limits : None where they are not known yet: see `limit`.
    shared_memory : bytes in the fold's own /dev/shm.
    layers : the layers to use; fewer emulate a platform that lacks some.
    """

    scratch: Path
    read: Collection[Path] = ()
    uid: int | None = None
    parent: int | None = None
    limits: ProcessLimits | None = field(default_factory=ProcessLimits)
    shared_memory: int = 256 * 1024**2
    layers: Collection[str] = tuple(LAYERS)


@dataclass(frozen=True)
class Prepared:
    """What is found out and computed before the fork: by `prepare`."""

    landlock: int  # ABI, 0: absent
    rules: list[landlock.Rule]
    filter: bytes | None
    namespaces: frozenset[str]  # the layers of namespaces that are allowed
    uid: bool  # a user of the slot's own can be had, and finds the interpreter
    protected: tuple[int, ...] = ()  # threads that no fold may signal, nor see where there is a mount namespace


def readable_paths(hidden: Iterable[Path] = ()) -> list[Path]:
    """Return what every fold reads: the interpreter, its packages, this package, system libraries, /proc, some of /sys.

    Never what is `hidden`, nor the folder that this package lies in, as a checkout also holds settings and data: of a
    folder above one of these, a fold reads what lies beside it now.
    """
    runner = Path(__file__).resolve().parents[1]
    hidden = {runner.parent, *(path.resolve() for path in hidden)}
    python = map(Path, (sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *sys.path))
    python = {path for path in python if path.is_absolute() and path.resolve() not in runner.parents}
    paths = {runner, *(part for path in (*python, *map(Path, SYSTEM)) for part in without(path, hidden))}
    return sorted(path for path in paths if paths.isdisjoint(path.parents))


def without(path: Path, hidden: Collection[Path]) -> Iterator[Path]:
    """Yield a path; where one of the resolved paths `hidden` is or lies below it, what lies beside that."""
    if not any(path.resolve() in (other, *other.parents) for other in hidden):
        yield path
    elif path.resolve() not in hidden:
        with suppress(OSError):
            for below in path.iterdir():
                if not below.is_symlink():  # where it points to is another path's
                    yield from without(below, hidden)


def prepare(*, hidden: Iterable[Path] = (), uid: int | None = None) -> Prepared:
    """Probe the kernel and compute what `restrict` needs; forks throwaway children, so call it with one thread.

    Parameters
    ----------
    hidden : what no fold may read, wherever it lies.
    uid : one of the slots' users, to try whether it can be had and reaches the interpreter.
    """
    if not LINUX:
        return Prepared(0, [], None, frozenset(), False)
    return Prepared(
        landlock=landlock.abi(),
        rules=landlock.rules(readable_paths(hidden), landlock.READ)
        + landlock.rules(map(Path, SCRATCH_LIKE), landlock.WRITE),
        filter=seccomp.program(),
        namespaces=namespaces.allowed(),
        uid=uid is not None and process.user_reaches(uid, modules()),
    )


def protecting(prepared: Prepared, threads: Iterable[int]) -> Prepared:
    """Return the same with a filter that keeps signals from these threads, where there is one; forks nothing.

    A signal to any thread of a process, not only to its first, stops or ends all of it: kill(2), tkill(2). When a
    supervisor's threads are at work, as /proc tells, is when a fold had better not hold what it may not.
    """
    return replace(prepared, filter=prepared.filter and seccomp.program(threads), protected=tuple(threads))


def modules() -> list[str]:
    """Return files that a fold must be able to read if it is to import anything."""
    numpy = importlib.util.find_spec("numpy")
    return [os.path.realpath(sys.executable), os.__file__, __file__, *([numpy.origin] if numpy else [])]


def restrict(policy: Policy, prepared: Prepared) -> frozenset[str]:
    """Restrict this process for good, and all that it starts; return the names of the layers that took hold.

    Call it in a child just forked, with one thread, its descriptors and environment already its own, and nothing of the
    submission seen yet. A layer that the kernel refuses is left out, without an exception. The order matters:
    namespaces and the ruleset while paths can still be opened, then the user, the death signal that a change of user
    clears, and last what forbids the steps before. Ends the process where the parent is gone.
    """
    applied: set[str] = set()
    parent = policy.parent or os.getppid()

    def attempt(layer: str, step: Callable[..., None], *arguments: Any) -> None:
        if layer in policy.layers:
            with suppress(OSError, AttributeError):
                step(*arguments)
                applied.add(layer)

    spaces = prepared.namespaces & set(policy.layers)
    applied.update(namespaces.isolate(spaces - {"traces"}, policy.shared_memory))
    with suppress(OSError):
        process.die_first()
    if "traces" in spaces and "shm" in applied:
        writable = [policy.scratch, namespaces.SHARED_MEMORY]
        attempt("traces", namespaces.leave_no_traces, writable, prepared.protected)
    landlocked = ruleset(policy, prepared)
    if prepared.uid and policy.uid is not None:
        attempt("uid", process.change_user, policy.uid)
    process.die_with(parent)
    attempt("capabilities", process.drop_capabilities)
    for step in (process.wake_rarely, process.dump_nothing, process.forbid_new_privileges):
        with suppress(OSError, AttributeError):
            step()
    if landlocked is not None:
        attempt("landlock", landlock.restrict_self, landlocked)
        if "landlock" in applied:
            applied.update(landlock.parts(prepared.landlock) & set(policy.layers))
    attempt("dumpable", prctl, PR_SET_DUMPABLE, 0)
    if prepared.filter is not None:
        attempt("seccomp", seccomp.restrict_self, prepared.filter)
    if policy.limits is not None:
        applied |= limit(policy.limits, policy, applied)
    return frozenset(applied)


def limit(limits: ProcessLimits, policy: Policy, applied: Collection[str]) -> frozenset[str]:
    """Limit this process, which `restrict` has given the `applied` layers; return the layer, if the policy has it."""
    if "limits" not in policy.layers:
        return frozenset()
    own_count = "uid" in applied or (os.getuid() != 0 and set(applied) & namespaces.LAYERS.keys())  # a user namespace's
    process.limit(limits, shared_user=not own_count)
    return frozenset({"limits"})


def ruleset(policy: Policy, prepared: Prepared) -> int | None:
    """Return the descriptor of the fold's Landlock rules, None without Landlock."""
    if not prepared.landlock or "landlock" not in policy.layers:
        return None
    own = landlock.rules([policy.scratch], landlock.WRITE) + landlock.rules(policy.read, landlock.READ)
    parts = {part: part in policy.layers for part in ("landlock_tcp", "landlock_scope")}
    with suppress(OSError):
        return landlock.ruleset(
            prepared.landlock, [*prepared.rules, *own], tcp=parts["landlock_tcp"], scope=parts["landlock_scope"]
        )
    return None


def level(applied: Collection[str]) -> str:
    """Return which of LEVELS these layers are worth, if our own processes are protected.

    strong: credentials, labels, files, other processes' memory, signals, any network and survival after the end are out
    of a fold's reach. partial: credentials, labels and others' files are. The selftest tells the same by trying.
    """
    applied = set(applied)
    if not applied & {"uid", "landlock"} or "capabilities" not in applied:
        return "none"
    only_its_own = "landlock" in applied or {"shm", "traces"} <= applied
    strong = only_its_own and "seccomp" in applied and applied & {"uid", "landlock_scope"}
    return "strong" if strong else "partial"
