"""What a host's disk keeps of data sets and submissions, shared by its workers. Never labels: see design.md.

    contents/<sha256>           features
    <files_path>/<sha256>/      a submission's files, or a data set's Python files; the hash is of names and contents
    locks/<sha256>              held while the content of that hash is written

All of it can be lost at any moment, and is fetched again.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import files

IN_USE = 600.0  # seconds after its last use in which nothing is removed
LOCK_WAIT = 0.05  # seconds between two attempts to get a lock

Beat = Callable[[], None]  # called often while we copy; what it raises ends the copy


class Cache:
    """The cache in a folder, of at most `size` bytes, but for what is in use."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size

    def content(self, sha256: str, beat: Beat) -> Path:
        """Return the file with that content, fetched unless it is there. Raises files.CorruptContent."""
        path = self._folder / "contents" / sha256
        with self._lock(sha256, beat):
            if not path.exists():
                self._make_room()
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
            os.utime(path)
        return path

    def folder(self, files_path: str, contents: Mapping[str, str], beat: Beat) -> Path:
        """Return the folder with a submission's files, or a data set's Python files, given their hashes by name."""
        sha256 = files.folder_hash(contents)
        path = self._folder / files_path / sha256
        with self._lock(sha256, beat):
            if not path.exists():
                pieces = {name: beating(content, beat) for name, content in contents.items()}
                files.save_files(path, {"files": pieces})
            os.utime(path)
        return path

    def nameless(self, sha256: str, beat: Beat) -> BinaryIO:
        """Return the content in a file that no path leads to: a data set's own files, which hold labels."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (whoever asked closes it)
        file.writelines(beating(sha256, beat))
        file.seek(0)
        return file

    @contextmanager
    def _lock(self, sha256: str, beat: Beat) -> Iterator[None]:
        locks = self._folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / sha256).open("wb") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    beat()
                    time.sleep(LOCK_WAIT)
            yield

    def _make_room(self) -> None:
        """Remove what was used longest ago, until the rest is no more than the cache may hold."""
        entries = [
            *self._folder.glob("contents/*"),
            *self._folder.glob("submissions/*/*"),
            *self._folder.glob("raw_data/*/*"),
        ]
        used = sorted(((path.stat().st_mtime, size_of(path), path) for path in entries), reverse=True)
        total = 0
        for mtime, size, path in used:
            total += size
            if total > self._size and time.time() - mtime > IN_USE:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def beating(sha256: str, beat: Beat) -> Iterator[bytes]:
    """Read a content from the database, with a beat for each piece."""
    for piece in files.read(sha256):
        beat()
        yield piece


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
