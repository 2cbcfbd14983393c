"""A task's own folder: made before it, measured while it runs, gone after it, whatever the task made of it."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 20_000  # of one task
DEEPEST = 100  # folders in each other, all open at once while the last is looked at
OTHERWISE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # what was a folder is gone, or no folder any more
BELOW = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def make_folders(paths: Iterable[Path], uid: int | None) -> None:
    """Make folders that are closed to others, a task's own or in it, and give them to its user."""
    for path in paths:
        path.mkdir(mode=0o700)
        if uid is not None:
            os.chown(path, uid, uid)


def copy_files(folder: Path, files: Mapping[str, int], uid: int | None) -> None:
    """Copy files (open, by name) into a folder, and give the copies to the task's user."""
    for name, fd in files.items():
        with open(fd, "rb", closefd=False) as source, (folder / name).open("xb") as copy:
            shutil.copyfileobj(source, copy)
            if uid is not None:
                os.fchown(copy.fileno(), uid, uid)


@dataclass
class Size:
    """What a folder holds.

    size : bytes on the disk. files : their number, folders included. missed : those that were gone, or had become
    another, when they were looked at: moved to where was looked before, maybe.
    """

    size: int = 0
    files: int = 0
    missed: int = 0


def folder_size(folder: Path, enough: int) -> Size:
    """Return what there is below `folder`; count no further than past `enough` bytes or `MOST_FILES`.

    What cannot be listed (folders too deep, a folder closed by its mode) counts as too many files. Folders are looked
    at through descriptors, whatever they are called by now.
    """
    found = Size()
    linked: set[int] = set()  # the files found by one of several names
    below: list[tuple[int | None, list[str]]] = [(None, [str(folder)])]  # with those in each that are still to be seen
    while below and found.size <= enough and found.files <= MOST_FILES:
        fd, names = below[-1]
        if not names:
            _close(below.pop()[0])
        elif len(below) > DEEPEST:
            found.files = MOST_FILES + 1
        else:
            try:
                below.append(_look(names.pop(), fd, found, linked))
            except OSError as error:
                if error.errno in OTHERWISE:
                    found.missed += fd is not None  # the first was moved as a whole
                else:
                    found.files = MOST_FILES + 1
    for fd, _names in below:
        _close(fd)
    return found


def _look(name: str, parent: int | None, found: Size, linked: set[int]) -> tuple[int, list[str]]:
    """Add what lies in a folder to what was `found`; return its descriptor, and the names of the folders in it."""
    folder = os.open(name, BELOW, dir_fd=parent)
    try:
        names = []
        with os.scandir(folder) as entries:
            for entry in entries:
                found.files += 1
                if found.files > MOST_FILES:
                    break
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    found.missed += 1
                    continue
                found.size += 512 if status.st_ino in linked else max(status.st_blocks * 512, 512)
                if status.st_nlink > 1:
                    linked.add(status.st_ino)
                if stat.S_ISDIR(status.st_mode):
                    names.append(entry.name)
        return folder, names
    except BaseException:
        os.close(folder)
        raise


def _close(folder: int | None) -> None:
    if folder is not None:
        os.close(folder)


def free_space(folder: Path) -> int:
    """Return the bytes that its file system has left for us, whoever fills it."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def wipe(folder: Path) -> None:
    """Remove a folder and all below it, however deep, whatever the modes of the folders in it; or what is in its place.

    Call it when nothing runs any more that could change it. A folder found below is moved to the top and removed there:
    no path grows long, and nothing is called as deep as the folders go.
    """
    with suppress(OSError):
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            os.unlink(folder)
            return
        os.chmod(folder, 0o700)
        top = os.open(folder, BELOW)
        try:
            todo = os.listdir(top)
            while todo:
                with suppress(OSError):
                    todo += _remove(todo.pop(), top)
        finally:
            os.close(top)
        os.rmdir(folder)


def _remove(name: str, top: int) -> list[str]:
    """Remove an entry of the folder open as `top`; return the names that the folders in it have now, beside it."""
    if _unlinked(name, top):
        return []
    moved = []
    os.chmod(name, 0o700, dir_fd=top)
    folder = os.open(name, BELOW, dir_fd=top)
    try:
        for inner in os.listdir(folder):
            if not _unlinked(inner, folder):
                os.chmod(inner, 0o700, dir_fd=folder)  # else it may not change its parent
                moved.append(secrets.token_hex(16))
                os.rename(inner, moved[-1], src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
    return moved


def _unlinked(name: str, folder: int) -> bool:
    """Remove what is no folder; return whether it was none."""
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=folder)
    return True
