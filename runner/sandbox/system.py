"""The C library's calls that Python does not offer, as functions that raise OSError.

Nothing is looked up at import, so that the package also imports where a call does not exist (macOS).
"""

import ctypes
import errno
import os
import platform
import struct

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_TIMERSLACK = 29
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PIDFD_GETFD, MOUNT_SETATTR = 438, 442  # on every architecture
KCMP, KCMP_VM = {"x86_64": 312, "aarch64": 272}, 1
AT_FDCWD = -100


def checked(result: int) -> int:
    """Return a C call's result, or raise OSError with its errno."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, value: int = 0, other: int = 0) -> int:
    """Follow prctl(2); raise OSError."""
    arguments = [ctypes.c_ulong(argument) for argument in (value, other, 0, 0)]
    return checked(libc.prctl(ctypes.c_int(option), *arguments))


def syscall(number: int, *arguments: object) -> int:
    """Follow syscall(2); integers travel as longs, bytes as pointers. Raise OSError."""
    longs = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *longs))


def get_file(process: int, number: int) -> int:
    """Return a copy of a descriptor of the process that the descriptor `process` is of; follow pidfd_getfd(2)."""
    return syscall(PIDFD_GETFD, process, number, 0)


def share_memory(process: int, other: int) -> bool:
    """Whether two processes have one memory, as after vfork(2); follow kcmp(2). Raise OSError."""
    if (number := KCMP.get(platform.machine())) is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return syscall(number, process, other, KCMP_VM, 0, 0) == 0


def unshare(flags: int) -> None:
    """Follow unshare(2); raise OSError."""
    checked(libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Follow mount(2); raise OSError."""
    texts = [text.encode() if text is not None else None for text in (source, target, kind, options)]
    checked(libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]))


def mount_setattr(path: str, flags: int, set_: int = 0, clear: int = 0) -> None:
    """Follow mount_setattr(2), since Linux 5.12; raise OSError."""
    attributes = struct.pack("4Q", set_, clear, 0, 0)
    syscall(MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, attributes, len(attributes))
