"""Whether this host's disk has room for what a worker fetches and for what folds write."""

import errno
import logging
import os
import time
from pathlib import Path

ROOM = 10_000_000  # bytes; a disk with less is full
LOOK_INTERVAL = 1.0  # seconds between two looks whether a full disk has room again
REST = 5.0  # seconds in which a worker starts nothing after it has met a full disk

log = logging.getLogger(__name__)


def is_full(error: BaseException) -> bool:
    """Whether something failed because the disk, or what our user may have of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class Disk:
    """The disk that a folder lies on, as one worker sees it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rests_until = 0.0
        self._told = False

    def size(self) -> int:
        """Return the bytes of the whole disk, free or not."""
        status = os.statvfs(self._folder)
        return status.f_blocks * status.f_frsize

    def is_short(self) -> bool:
        """Whether there is less than ROOM."""
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize < ROOM

    def check(self) -> None:
        """Raise OSError, of which `is_full` is true, where there is less than ROOM."""
        if self.is_short():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def rest(self) -> None:
        """Note that something needed more than there was: it may be more than ROOM."""
        self._rests_until = time.monotonic() + REST

    def may_start(self) -> bool:
        """Whether a task may begin; says once in the log when none may, and when one may again."""
        short = self.is_short()
        if short and not self._told:
            log.warning("no job is taken: the disk of %s is full", self._folder)
        if self._told and not short:
            log.info("jobs are taken again: the disk of %s has room", self._folder)
        self._told = short
        return not short and time.monotonic() >= self._rests_until
