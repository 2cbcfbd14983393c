"""What a host's disk keeps of data sets and submissions, shared by its workers. Never labels: see design.md.

    contents/<sha256>           features
    <files_path>/<sha256>/      a submission's files, or a data set's Python files; the hash is of names and contents
    locks/<two hex digits>      held while what has a hash that begins so is written, so that one writes for all: of
                                what is fetched at once, one in 256 waits for another, as long as that is written

All of it can be lost at any moment, and is fetched again.
"""

import fcntl
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import disk
import files

IN_USE = 600.0  # seconds after its last use in which nothing is removed
JUST_USED = 60.0  # seconds: the same, where the disk is full
LOOK_AFTER = 0.01  # of the cache's size, added by one worker, until it looks at all that there is
LOCK_WAIT = 0.05  # seconds between two attempts to get a lock
LONGEST_WAIT = 60.0  # seconds; who has a lock for longer may stand still, and what we write is the same

Written = TypeVar("Written")
Beat = Callable[[], None]  # called often while we copy; what it raises ends the copy


class Cache:
    """The cache in a folder, of at most `size` bytes, but for what is in use."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._added = math.inf  # bytes since this process has last looked at all entries, which may be many
        self._held: Path | None = None  # our lock
        for lock in folder.glob("locks/???*"):  # of an earlier version, which had one for each entry
            with suppress(OSError):
                lock.unlink()

    def content(self, sha256: str, beat: Beat) -> Path:
        """Return the file with that content, fetched unless it is there. Raises files.CorruptContent."""
        path = self._folder / "contents" / sha256
        with self._lock(sha256, beat):
            if not path.exists():
                self._add(path, partial(fetch, path, sha256, beat))
            os.utime(path)
        return path

    def folder(self, files_path: str, contents: Mapping[str, str], beat: Beat) -> Path:
        """Return the folder with a submission's files, or a data set's Python files, given their hashes by name."""
        sha256 = files.folder_hash(contents)
        path = self._folder / files_path / sha256
        with self._lock(sha256, beat):
            if not path.exists():
                self._add(path, partial(fetch_folder, path, contents, beat))
            os.utime(path)
        return path

    def nameless(self, sha256: str, beat: Beat) -> BinaryIO:
        """Return the content in a file that no path leads to: a data set's own files, which hold labels."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._write(partial(fetch_nameless, self._folder, sha256, beat))

    @contextmanager
    def _lock(self, sha256: str, beat: Beat) -> Iterator[None]:
        path = self._lock_of(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LONGEST_WAIT
        with path.open("wb") as lock:
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._held = path
                    break
                except BlockingIOError:
                    beat()
                    time.sleep(LOCK_WAIT)
            try:
                yield
            finally:
                self._held = None

    def _lock_of(self, name: str) -> Path:
        return self._folder / "locks" / name[:2]

    def _add(self, path: Path, write: Callable[[], None]) -> None:
        """Write an entry, and keep the cache within its size."""
        self._write(write)
        if use := use_of(path):
            self._added += use[1]
        if self._added > self._size * LOOK_AFTER and self._make_room(self._size, IN_USE):
            self._added = 0

    def _write(self, write: Callable[[], Written]) -> Written:
        """Write; where the disk is full, make room on it and write once more."""
        try:
            return write()
        except OSError as error:
            if not disk.is_full(error):
                raise
        self._make_room(0, JUST_USED)
        return write()

    def _make_room(self, most: int, unused_for: float) -> bool:
        """Remove what was used longest ago, until the rest has `most` bytes, or was used in the last seconds.

        Return whether the rest has no more.
        """
        entries = [
            *self._folder.glob("contents/*"),
            *self._folder.glob("submissions/*/*"),
            *self._folder.glob("raw_data/*/*"),
        ]
        total = kept = 0
        for mtime, size, path in sorted(filter(None, map(use_of, entries)), reverse=True):
            total += size
            if total > most and time.time() - mtime > unused_for:
                self._remove(path, mtime)
            else:
                kept += size
        for folder in (*self._folder.glob("submissions/*"), *self._folder.glob("raw_data/*")):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        return kept <= most

    def _remove(self, path: Path, mtime: float) -> None:
        """Remove an entry, unless another worker uses it now or has just used it. Never waits for a lock."""
        held = self._lock_of(path.name)
        with held.open("wb") as lock, suppress(BlockingIOError, FileNotFoundError):
            if held != self._held:  # by us, for what is to be written
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_mtime == mtime:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def beating(sha256: str, beat: Beat) -> Iterator[bytes]:
    """Read a content from the database, with a beat for each piece."""
    for piece in files.read(sha256):
        beat()
        yield piece


def fetch(path: Path, sha256: str, beat: Beat) -> None:
    """Write a content to that path, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.writelines(beating(sha256, beat))
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def fetch_folder(path: Path, contents: Mapping[str, str], beat: Beat) -> None:
    files.save_files(path, {"files": {name: beating(sha256, beat) for name, sha256 in contents.items()}})


def fetch_nameless(folder: Path, sha256: str, beat: Beat) -> BinaryIO:
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (whoever asked closes it)
    try:
        file.writelines(beating(sha256, beat))
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def use_of(path: Path) -> tuple[float, int, Path] | None:
    """Return when an entry was last used, and its size; None where another worker has just removed it."""
    try:
        parts = path.iterdir() if path.is_dir() else [path]
        return path.stat().st_mtime, sum(part.stat().st_size for part in parts), path
    except FileNotFoundError:
        return None
