"""What a fold leaves in folders that all may write to, and how to tell it from what a neighbour uses.

Where a fold had a /dev/shm of its own (layer "shm") and Landlock, nothing is left: the kernel drops the first with the
fold's last process, and the second kept it from the other folders. Else:

- A fold under a user of its own: all that this user owns is the fold's.
- A fold under our user: an entry of /dev/shm that was last changed after the zygote began and before the oldest fold
  that still runs did, was made by a fold that is over. Whatever programs of the same account made meanwhile
  stays if a process that we may inspect has it open or mapped. In other folders it cannot be told, and nothing is done.
"""

import os
from contextlib import suppress
from pathlib import Path

from ..folders import wipe
from .namespaces import SHARED_MEMORY

SHARED_FOLDERS = (SHARED_MEMORY, Path("/tmp"), Path("/var/tmp"))
SLACK = 0.1  # seconds by which the time of a file may lie behind the clock


def sweep_user(uid: int) -> int:
    """Remove all that a slot's own user has in the shared folders, after its processes have ended; return how much.

    Raises ValueError for the user that we are: that is no slot's own.
    """
    if uid == os.getuid():
        raise ValueError(f"user {uid} is ours")
    return sum(remove(path) for folder in SHARED_FOLDERS for path in owned(folder, uid))


def sweep_shared_memory(since: float, until: float) -> int:
    """Remove what ended folds of our own user left in /dev/shm; return how many entries.

    Parameters
    ----------
    since : when the zygote began, by time.time().
    until : when the oldest fold that still runs began, before its fork; infinity if none runs.
    """
    ours = []
    for path in owned(SHARED_MEMORY, os.getuid()):
        with suppress(FileNotFoundError):  # its owner, or another sweep, was first
            status = path.lstat()
            if since <= status.st_ctime < until - SLACK:
                ours.append((path, identity(status)))
    in_use = files_in_use() if ours else set()
    return sum(remove(path) for path, identified in ours if identified not in in_use)


def owned(folder: Path, uid: int) -> list[Path]:
    """Return what the user owns directly in the folder."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # gone meanwhile
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    found.append(Path(entry.path))
    return found


def remove(path: Path) -> bool:
    """Remove a file, or a folder with all in it; return whether it is gone."""
    wipe(path)
    return not os.path.lexists(path)


def identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def files_in_use() -> set[tuple[int, int]]:
    """Return device and inode of all that processes have open or mapped, of those that we may inspect."""
    found = set()
    for pattern in ("[0-9]*/fd/*", "[0-9]*/map_files/*"):
        for link in Path("/proc").glob(pattern):
            try:
                if str(SHARED_MEMORY) in str(link.readlink()):
                    found.add(identity(link.stat()))
            except OSError:
                continue
    return found
