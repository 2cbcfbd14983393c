"""A task's own folder: made before it, measured while it runs, gone after it, whatever the task made of it."""

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

MOST_FILES = 20_000  # of one task
LONGEST_PATH = 2000  # characters; to look far below takes long, and where a path ends (PATH_MAX), nothing is seen
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


def folder_size(folder: Path, enough: int) -> tuple[int, int]:
    """Return the bytes and the number of the files below `folder`; count no further than past `enough` or `MOST_FILES`.

    What cannot be listed (a path that is too long, a folder closed by its mode) counts as too many files.
    """
    size = files = 0
    linked: set[int] = set()  # the files found by one of several names
    todo = [str(folder)]
    while todo and size <= enough and files <= MOST_FILES:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    files += 1
                    if files > MOST_FILES or len(entry.path) > LONGEST_PATH:
                        files = MOST_FILES + 1
                        break
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # gone meanwhile, as others are not
                        continue
                    size += 512 if status.st_ino in linked else max(status.st_blocks * 512, 512)
                    if status.st_nlink > 1:
                        linked.add(status.st_ino)
                    if stat.S_ISDIR(status.st_mode):
                        todo.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):  # gone meanwhile
            continue
        except OSError:
            files = MOST_FILES + 1
    return size, files


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
