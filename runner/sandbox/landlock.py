"""Landlock: which files a fold may read and write, no TCP, no signals or abstract sockets beyond itself.

Follows landlock(7), landlock_create_ruleset(2), landlock_add_rule(2) and the kernel's userspace-api/landlock.
A rule holds for a folder and all below it. Landlock takes no rule back: what is not granted here stays closed, and
the process is also kept from tracing any process outside its own domain.
"""

import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from .system import syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
RULESET_VERSION = 1
PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
WRITE = (1 << 16) - 1  # every right
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV  # others, on a file, give EINVAL
RIGHTS = (0, (1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)  # by ABI; the last holds on
BIND_AND_CONNECT_TCP = 3
ABSTRACT_SOCKETS_AND_SIGNALS = 3

Rule = tuple[Path, int]


def abi() -> int:
    """Return the version of Landlock that this kernel offers, 0 where it is absent or switched off."""
    try:
        return syscall(CREATE_RULESET, None, 0, RULESET_VERSION)
    except (OSError, AttributeError):
        return 0


def rules(paths: Iterable[Path], access: int) -> list[Rule]:
    """Return (path, rights) of those paths that exist, with the rights that its kind can carry."""
    found = []
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        found.append((path, access if stat.S_ISDIR(mode) else access & OF_A_FILE))
    return found


def ruleset(version: int, granted: Iterable[Rule], *, tcp: bool, scope: bool) -> int:
    """Make a ruleset and return its descriptor.

    Parameters
    ----------
    version : what `abi()` said.
    granted : files and folders with their rights; one that cannot be opened is left out.
    tcp, scope : refuse TCP (ABI 4); refuse signals and abstract sockets beyond this domain (ABI 6).

    Raises OSError where Landlock refuses.
    """
    files = RIGHTS[min(version, len(RIGHTS) - 1)]
    network = BIND_AND_CONNECT_TCP if tcp and version >= 4 else 0
    scoped = ABSTRACT_SOCKETS_AND_SIGNALS if scope and version >= 6 else 0
    attributes = struct.pack("QQQ", files, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    descriptor = syscall(CREATE_RULESET, attributes, len(attributes), 0)
    for path, access in granted:
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            syscall(ADD_RULE, descriptor, PATH_BENEATH, struct.pack("=Qi", access & files, beneath), 0)
        finally:
            os.close(beneath)
    return descriptor


def parts(version: int) -> set[str]:
    """Return the layers beside files that this ABI has."""
    return {name for name, since in (("landlock_tcp", 4), ("landlock_scope", 6)) if version >= since}


def restrict_self(descriptor: int) -> None:
    """Apply the ruleset to this thread and all that it starts (it needs no_new_privs), and close it."""
    try:
        syscall(RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)
