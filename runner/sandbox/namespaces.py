"""Namespaces: a network with nobody on it, IPC objects and a /dev/shm that go when the fold goes.

Follows namespaces(7), user_namespaces(7), network_namespaces(7), ipc_namespaces(7), mount_namespaces(7), tmpfs(5),
mount_setattr(2).
"""

import os
import stat
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

from .system import PR_SET_DUMPABLE, mount, mount_setattr, prctl, unshare

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT = 1, 2, 4, 32
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
MOUNT_ATTR_RDONLY, AT_RECURSIVE = 1, 0x8000
LAYERS = {"network": CLONE_NEWNET | CLONE_NEWIPC, "shm": CLONE_NEWNS}
SHARED_MEMORY = Path("/dev/shm")
NODES = Path("/sys/devices/system/node")  # of memory, each of which counts for itself
COUNTERS = [
    *(Path("/proc", name) for name in ("vmstat", "zoneinfo", "locks")),
    *(path for name in ("vmstat", "numastat") for path in sorted(NODES.glob(f"node*/{name}"))),
]


def enter(flags: int) -> bool:
    """Move into new namespaces; an ordinary user does so as the master of a user namespace. Return False if refused.

    Raises OSError where an ordinary user got the namespace but not itself in it: the process is of no use then.
    """
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid == 0:
            unshare(flags)
            return True
        prctl(PR_SET_DUMPABLE, 1)  # else /proc/self/uid_map belongs to root
        unshare(flags | CLONE_NEWUSER)
    except OSError:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path("/proc/self", name).write_text(text)
    return True


def own_shared_memory(size: int) -> None:
    """Cover /dev/shm with an empty one of this size (bytes), in a mount namespace of our own. Raise OSError."""
    options = f"mode=1777,size={size},nr_inodes=4096"
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", str(SHARED_MEMORY), "tmpfs", MS_NOSUID | MS_NODEV, options)


def leave_no_traces(writable: Collection[Path], hidden: Iterable[int] = ()) -> bool:
    """Make all that is mounted read-only, in a mount namespace of our own, but for these folders; return True.

    Raises OSError, half-way: never where `allowed` names the layer "traces".

    Nothing else may be written to anyway; but to read a file sets its time of access, which others could read in turn.
    So could they the counters of the kernel that a process can set at will: these are hidden. So is what /proc tells of
    the threads `hidden`.
    """
    for counters in filter(Path.exists, COUNTERS):
        mount(os.devnull, str(counters), None, MS_BIND)
    hide(f"/proc/{thread}" for thread in hidden)
    for folder in writable:
        mount(str(folder), str(folder), None, MS_BIND)
    mount_setattr("/", AT_RECURSIVE, set_=MOUNT_ATTR_RDONLY)
    for folder in writable:
        mount_setattr(str(folder), 0, clear=MOUNT_ATTR_RDONLY)
    os.chdir(os.getcwd())  # which may lie below what has been mounted
    return True


def hide(folders: Iterable[str]) -> None:
    """Cover folders with an empty one. One that is gone is none to hide."""
    empty = ""
    for folder in folders:
        with suppress(FileNotFoundError):
            if empty:
                mount(empty, folder, None, MS_BIND)
            else:
                mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0555,nr_inodes=1")
                empty = folder


def isolate(layers: Collection[str], shared_memory: int) -> set[str]:
    """Enter the namespaces of these layers, with a /dev/shm of that size (bytes); return those that took hold.

    Raises what `enter` raises, never where `allowed` names the layers.
    """
    flags = sum(LAYERS[layer] for layer in layers)
    if not flags or not enter(flags):
        return set()
    applied = set(layers)
    if "shm" in applied:
        try:
            own_shared_memory(shared_memory)
        except OSError:
            applied.remove("shm")
    return applied


def allowed() -> frozenset[str]:
    """Return the layers that a throwaway child could have, tried because a failure half-way would ruin a fold."""
    for layers in ({"network", "shm"}, {"network"}, {"shm"}):
        if _could(lambda layers=layers: isolate(layers, 1 << 20) == layers):
            traces = "shm" in layers and _could(
                lambda: isolate({"shm"}, 1 << 20) and leave_no_traces([SHARED_MEMORY], [os.getppid()])
            )
            return frozenset({*layers, "traces"} if traces else layers)
    return frozenset()


def _could(attempt: Callable[[], object]) -> bool:
    """Return whether a throwaway child comes to the end of an attempt, and that returns something true."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(not attempt())
        finally:  # whatever the kernel said
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def closed_ancestor(path: Path) -> Path | None:
    """Return the topmost folder above the path that other users may not enter, None if there is none."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def open_ways(readable: Iterable[Path], writable: Iterable[Path] = ()) -> bool:
    """Let the slots' users reach these paths below folders that are closed to them; as root, once, in the zygote.

    In a mount namespace of this process and its children, an empty file system covers each closed folder, and only
    these paths are bound back into it: all else in there is hidden. A path is found by the name it was given and by
    its resolved one. Folders must stay the same: one that is deleted and made again is not seen.

    Returns whether every way is open; False (and nothing changed) where mounts are refused.
    """
    paths: dict[Path, bool] = {}
    for path, may_write in [(path, False) for path in readable] + [(path, True) for path in writable]:
        if path.exists():
            paths |= {path.absolute(): may_write, path.resolve(): may_write}
    closed = {path: folder for path in paths if (folder := closed_ancestor(path))}
    if not closed:
        return True
    try:
        unshare(CLONE_NEWNS)
        mount("none", "/", None, MS_REC | MS_PRIVATE)
    except OSError:
        return False
    sources = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in closed}
    umask = os.umask(0o022)
    for folder in set(closed.values()):
        mount("tmpfs", str(folder), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
    for path in sorted(closed, key=lambda path: len(path.parts)):  # a folder before what lies in it
        bind(sources[path], path, paths[path])
    os.umask(umask)
    return True


def bind(source: int, path: Path, may_write: bool) -> None:
    """Mount what the descriptor holds at the path, made if need be, and close the descriptor."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(source).st_mode):
            path.mkdir()
        else:
            path.touch()
    mount(f"/proc/self/fd/{source}", str(path), None, MS_BIND | MS_REC)
    mount("none", str(path), None, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV | (0 if may_write else MS_RDONLY))
    os.close(source)
