"""Keeps what the service's processes hold from others on the machine: their memory, and files with hashes or labels."""

import ctypes
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_DUMPABLE = 4  # prctl(2)


def close_memory() -> None:
    """Keep other processes of the same user from reading or tracing this one and those that it forks (not execs).

    Where there is no such thing (macOS), nothing happens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)


def close_folder(path: Path) -> None:
    """Have the folder at `path`, made here unless it is there, for us alone; one of another user stays as it is.

    Raises OSError where we cannot write to it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with suppress(PermissionError):
        path.chmod(0o700)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def close_database(path: Path) -> None:
    """Have the SQLite file at `path`, made here unless it is there, and what SQLite keeps beside it, for us alone.

    SQLite gives its `-wal` and `-shm` the mode of the file. One that belongs to another user stays as it is.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))
        for file in (path, *path.parent.glob(f"{path.name}-*")):
            file.chmod(0o600)
    except OSError:  # SQLite says better what is wrong with it
        return
