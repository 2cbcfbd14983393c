"""The attacks that the self-test tries: what a submission may do to get at secrets, others, or the machine.

Each is a function that raises OSError when it is stopped. Beside it stand the layers of which any one stops it; a test
holds that each does so alone, and that without them the attack succeeds.
"""

import ctypes
import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .sandbox.seccomp import ARCHITECTURES, REFUSED
from .sandbox.system import checked, libc, syscall, unshare

SECRET = ctypes.create_string_buffer(b"a label or a credential")
Address = tuple[str, int] | str | bytes


@dataclass(frozen=True)
class Target:
    """What the attacker aims at."""

    parent: int
    neighbour: int
    secret: Path  # a file of the judge's
    others: Path  # a file in the neighbour's scratch
    open_folder: Path  # which all may write to
    tcp: Address
    udp: Address
    abstract: str
    shared_memory: Path
    unix: ClassVar[str] = "stream"  # below the judge's folder, the current one
    datagrams: ClassVar[str] = "datagrams"


@dataclass(frozen=True)
class Attack:
    """An attack: it raises OSError when it is stopped; any one of the sets of layers `stops` it."""

    name: str
    kind: str
    stops: tuple[frozenset[str], ...]
    run: Callable[[Target], object]


def number_of(name: str) -> int:
    """Return the number of a system call that the filter knows; raise OSError on other architectures."""
    if (machine := os.uname().machine) not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return REFUSED[name][ARCHITECTURES[machine][0]]


def read_environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def read_memory(pid: int) -> None:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(ctypes.addressof(SECRET))
        memory.read(1)


def read_across(target: Target) -> None:
    byte = ctypes.create_string_buffer(1)
    ours, theirs = ((ctypes.c_size_t * 2)(ctypes.addressof(buffer), 1) for buffer in (byte, SECRET))
    checked(libc.process_vm_readv(target.parent, ours, ctypes.c_ulong(1), theirs, ctypes.c_ulong(1), ctypes.c_ulong(0)))


def trace(target: Target) -> None:
    seize = 0x4206
    checked(libc.ptrace(seize, target.parent, None, None))


def change_mode(target: Target) -> None:
    """Count what holds afterwards: the filter lets this call seem to succeed."""
    target.secret.chmod(0o640)
    if stat.S_IMODE(target.secret.stat().st_mode) != 0o640:
        raise PermissionError


def connect(family: int, kind: int, address: Address) -> None:
    with socket.socket(family, kind) as sock:
        sock.connect(address)


def send_udp(target: Target) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"labels", target.udp)


def send_by_pair(target: Target) -> None:
    """Use a socket of a pair, which needs no socket(2), towards another address."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.sendto(b"labels", target.datagrams)


def open_netlink(target: Target) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


def keep_key(target: Target) -> None:
    user_keyring, key = -4, b"datarun-selftest"
    number = syscall(number_of("add_key"), b"user", key, b"x", 1, user_keyring)
    unlink = 9
    syscall(number_of("keyctl"), unlink, number, user_keyring)


def keep_segment(target: Target) -> None:
    """Reach a SysV segment that the judge made."""
    checked(libc.shmget(target.parent, ctypes.c_size_t(0), 0))


def attack(name: str, kind: str, stops: str, run: Callable[[Target], object]) -> Attack:
    return Attack(name, kind, tuple(frozenset(layers.split("+")) for layers in stops.split()), run)


CLONE_NEWUSER = 0x10000000
INET, UNIX, STREAM = socket.AF_INET, socket.AF_UNIX, socket.SOCK_STREAM
SIGNALS = "uid landlock+landlock_scope"
TCP = "network landlock+landlock_tcp seccomp"
ABSTRACT = "network landlock+landlock_scope seccomp"
OUTSIDE = "landlock shm+traces"
INSPECTION = "uid landlock+capabilities dumpable+capabilities"

ATTACKS = [
    attack("read the worker's environment", "credentials", INSPECTION, lambda t: read_environment(t.parent)),
    attack("read the worker's memory by /proc", "memory", INSPECTION, lambda t: read_memory(t.parent)),
    attack("read the worker's memory by process_vm_readv", "memory", f"{INSPECTION} seccomp", read_across),
    attack("trace the worker", "memory", f"{INSPECTION} seccomp", trace),
    attack("read another fold's memory", "memory", INSPECTION, lambda t: read_memory(t.neighbour)),
    attack("read the worker's files", "files", "uid landlock", lambda t: t.secret.read_bytes()),
    attack("read another fold's files", "files", "uid landlock", lambda t: t.others.read_bytes()),
    attack("change the mode of the worker's files", "writing", "uid seccomp", change_mode),
    attack("empty the worker's files", "writing", "uid landlock seccomp", lambda t: os.truncate(t.secret, 0)),
    attack("write outside its folder", "writing", OUTSIDE, lambda t: (t.open_folder / "left").write_text("x")),
    attack("signal the worker", "signals", SIGNALS, lambda t: os.kill(t.parent, 0)),
    attack("signal another fold", "signals", SIGNALS, lambda t: os.kill(t.neighbour, 0)),
    attack("connect by TCP", "network", TCP, lambda t: connect(INET, STREAM, t.tcp)),
    attack("send by UDP", "network", "network seccomp", send_udp),
    attack("connect to a Unix socket", "network", "seccomp", lambda t: connect(UNIX, STREAM, t.unix)),
    attack("send to a Unix socket from a socket pair", "network", "seccomp", send_by_pair),
    attack("connect to an abstract socket", "network", ABSTRACT, lambda t: connect(UNIX, STREAM, t.abstract)),
    attack("open a netlink socket", "network", "seccomp", open_netlink),
    attack("keep a key in the kernel", "leftovers", "seccomp", keep_key),
    attack("reach a SysV shared memory segment", "leftovers", "network seccomp", keep_segment),
    attack("open another's file in /dev/shm", "shared memory", "shm", lambda t: t.shared_memory.read_bytes()),
    attack("enter a user namespace", "privileges", "seccomp", lambda t: unshare(CLONE_NEWUSER)),
]  # fmt: skip
SURVIVAL = attack("outlive its end as a daemon", "survival", "subreaper", lambda t: None)


def attacks_on(secrets: Sequence[Path]) -> list[Attack]:
    """Return the attacks that read these files or list these folders, of the service at hand."""

    def reading(path: Path) -> Callable[[Target], object]:
        return lambda target: list(path.iterdir()) if path.is_dir() else path.read_bytes()

    return [attack(f"read {path.name}", "files", "uid landlock", reading(path)) for path in secrets if path.exists()]
