"""The scratch folder of a host: which slot has which number, and what those that were killed have left.

slot-<number>/       the files of the task that runs on it
slot-<number>.lock   locked while a process of that slot lives, whichever zygote's: one that has lost its worker's
                     main process and the one that follows run side by side for a while
selftest-<name>/     the files of a self-test
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from .folders import wipe

MOST_SLOTS = 512  # of one host
SELF_TEST = 60.0  # seconds after which a self-test is over


def take_number(scratch: Path) -> tuple[int, int]:
    """Return the lowest free number, and the descriptor of its lock, to be inherited by the slot and closed here."""
    for number in range(MOST_SLOTS):
        if (lock := _lock(scratch, number)) is not None:
            return number, lock
    raise RuntimeError(f"There are {MOST_SLOTS} slots already")


def sweep(scratch: Path) -> None:
    """Remove what slots and self-tests that were killed have left."""
    for folder in scratch.glob("slot-*[0-9]"):
        if (lock := _lock(scratch, int(folder.name.removeprefix("slot-")))) is not None:
            wipe(folder)
            os.close(lock)
    for folder in scratch.glob("selftest-*"):
        with suppress(FileNotFoundError):  # another zygote sweeps too
            if time.time() - folder.stat().st_mtime > SELF_TEST:
                wipe(folder)


def _lock(scratch: Path, number: int) -> int | None:
    """Return the descriptor that holds the lock of a number, None where somebody else does (flock(2))."""
    descriptor = os.open(scratch / f"slot-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
