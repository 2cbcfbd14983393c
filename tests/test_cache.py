"""The cache of a host: shared by its workers, checked, bounded, and nothing without which one could not go on."""

import errno
import fcntl
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update

import cache
import files
from cache import Cache
from models import Chunk, db

ROOT_USER = os.geteuid() == 0
SIZE = 3 * files.CHUNK_SIZE  # bytes of a content
FETCH = """
import sys
from dataclasses import replace
from pathlib import Path
from app import create_app
from cache import Cache
from config import Config

url, folder, sha256 = sys.argv[1:]
app = create_app(Config(DATABASE_URL=url, DATARUN_HOME=Path(folder)))
sys.stdin.readline()
with app.app_context():
    print(Cache(Path(folder) / "cache", 10**9).content(sha256, lambda: None))
"""


def no_beat() -> None:
    """Nobody waits for our signs of life."""


def stored(seed: int, size: int = SIZE) -> str:
    """Store a content of its own; return its hash."""
    return files.store(io.BytesIO(seed.to_bytes(4, "little") * (size // 4)))


@pytest.fixture
def in_app(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def unused_for(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("contents/*")}


def test_what_was_used_longest_ago_is_removed_beyond_the_size(tmp_path: Path, in_app: None) -> None:
    host = Cache(tmp_path, 2 * SIZE)
    first, second, third = (stored(seed) for seed in (1, 2, 3))
    for age, sha256 in ((3, first), (2, second)):
        unused_for(host.content(sha256, no_beat), age * cache.IN_USE)
    host.content(third, no_beat)
    assert kept(tmp_path) == {second, third}


def test_what_was_used_again_stays(tmp_path: Path, in_app: None) -> None:
    host = Cache(tmp_path, 2 * SIZE)
    first, second, third = (stored(seed) for seed in (1, 2, 3))
    for sha256 in (first, second):
        unused_for(host.content(sha256, no_beat), 2 * cache.IN_USE)
    host.content(first, no_beat)
    host.content(third, no_beat)
    assert kept(tmp_path) == {first, third}


def test_what_was_used_a_moment_ago_stays_whatever_the_size(tmp_path: Path, in_app: None) -> None:
    host = Cache(tmp_path, SIZE // 2)
    contents = {stored(seed) for seed in (1, 2, 3)}
    for sha256 in contents:
        host.content(sha256, no_beat)
    assert kept(tmp_path) == contents


def test_folders_of_submissions_are_removed_too(tmp_path: Path, in_app: None) -> None:
    host = Cache(tmp_path, SIZE)
    first, second = (stored(seed) for seed in (1, 2))
    old = host.folder("submissions/1", {"classifier.py": first}, no_beat)
    unused_for(old, 2 * cache.IN_USE)
    new = host.folder("submissions/2", {"classifier.py": second}, no_beat)
    assert (old.exists(), (new / "classifier.py").stat().st_size) == (False, SIZE)


def test_what_is_added_little_by_little_is_removed_too_without_a_look_at_all_each_time(
    tmp_path: Path, in_app: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    monkeypatch.setattr(cache, "use_of", lambda path, use_of=cache.use_of: looks.append(path) or use_of(path))
    small = 4000  # bytes
    host = Cache(tmp_path, 1000 * small)
    for number in range(200):
        path = host.folder(f"submissions/{number}", {"classifier.py": stored(number, small)}, no_beat)
        unused_for(path, cache.IN_USE + 1000 - number)
    assert len(looks) < 22 * 200  # to look at all each time would be 100 times 200 and more
    monkeypatch.setattr(host, "_size", 10 * small)
    host.folder("submissions/last", {"classifier.py": stored(200, small)}, no_beat)
    assert len(list(tmp_path.glob("submissions/*/*"))) == 10


def test_what_is_removed_leaves_nothing(tmp_path: Path, in_app: None) -> None:
    for left in ("locks", "submissions/0"):  # by an earlier version
        (tmp_path / left).mkdir(parents=True)
    (tmp_path / "locks" / ("a" * 64)).touch()
    host = Cache(tmp_path, SIZE)
    for number in range(1, 6):
        unused_for(host.folder(f"submissions/{number}", {"a.py": stored(number)}, no_beat), 2 * cache.IN_USE)
    host.content(stored(6), no_beat)
    assert list(tmp_path.glob("submissions/*")) == []
    assert [lock.name for lock in tmp_path.glob("locks/*") if len(lock.name) > 2] == []


def test_a_folder_is_made_though_another_worker_removes_its_parent_as_it_is_empty(
    tmp_path: Path, in_app: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []

    def mkdtemp(mkdtemp: Callable[..., str] = tempfile.mkdtemp, **options: Any) -> str:
        if not removed and options["dir"].exists():
            options["dir"].rmdir()
            removed.append(options["dir"])
        return mkdtemp(**options)

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    made = Cache(tmp_path, 10 * SIZE).folder("submissions/1", {"classifier.py": stored(1)}, no_beat)
    assert removed == [made.parent]
    assert (made / "classifier.py").stat().st_size == SIZE


def test_a_corrupt_content_is_refused_and_leaves_nothing(tmp_path: Path, in_app: None) -> None:
    sha256 = stored(1)
    db.session.execute(update(Chunk).where(Chunk.sha256 == sha256, Chunk.position == 1).values(data=b"other"))
    db.session.commit()
    host = Cache(tmp_path / "cache", 10 * SIZE)
    with pytest.raises(files.CorruptContent):
        host.content(sha256, no_beat)
    with pytest.raises(files.CorruptContent):
        host.folder("submissions/1", {"classifier.py": sha256}, no_beat)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.parent.name != "locks"] == []


def test_a_fetch_that_is_interrupted_leaves_nothing(tmp_path: Path, in_app: None) -> None:
    def interrupt() -> None:
        raise InterruptedError

    sha256 = stored(1)
    with pytest.raises(InterruptedError):
        Cache(tmp_path, 10 * SIZE).content(sha256, interrupt)
    assert kept(tmp_path) == set()


def test_workers_that_need_the_same_content_at_once_fetch_it_once(
    tmp_path: Path, database_url: str, app: Flask
) -> None:
    with app.app_context():
        sha256 = stored(1, 20 * files.CHUNK_SIZE)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH, database_url, str(tmp_path), sha256],
            cwd=files.__file__.rpartition("/")[0],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(lambda worker: worker.communicate("go\n", timeout=120)[0].strip(), workers))
    path = tmp_path / "cache" / "contents" / sha256
    assert told == [str(path)] * 4
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    assert kept(tmp_path / "cache") == {sha256}


@pytest.mark.skipif(not ROOT_USER, reason="mounts a small file system: needs root")
def test_where_the_disk_is_full_what_is_not_in_use_makes_room(tmp_path: Path, in_app: None) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={2 * SIZE + 65536}", "none", disk])
    if mounted.returncode:
        pytest.skip("mounts are refused")
    try:
        host = Cache(disk, 100 * SIZE)
        old, used, new, more = (stored(seed) for seed in (1, 2, 3, 4))
        unused_for(host.content(old, no_beat), cache.JUST_USED + 1)
        host.content(used, no_beat)
        host.content(new, no_beat)
        assert kept(disk) == {used, new}
        with pytest.raises(OSError) as raised:
            host.content(more, no_beat)
        assert raised.value.errno == errno.ENOSPC
        assert kept(disk) == {used, new}
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("of_a_folder", [False, True])
def test_a_worker_that_stands_still_with_a_lock_holds_others_up_for_a_while_only(
    tmp_path: Path, in_app: None, monkeypatch: pytest.MonkeyPatch, of_a_folder: bool
) -> None:
    monkeypatch.setattr(cache, "LONGEST_WAIT", 0.2)
    content = stored(1)
    locked = files.folder_hash({"classifier.py": content}) if of_a_folder else content
    lock = tmp_path / "locks" / locked[:2]
    lock.parent.mkdir()
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        beats: list[float] = []
        beat = lambda: beats.append(time.monotonic())  # noqa: E731
        host = Cache(tmp_path, 10 * SIZE)
        if of_a_folder:
            path = host.folder("submissions/1", {"classifier.py": content}, beat) / "classifier.py"
        else:
            path = host.content(content, beat)
    assert path.stat().st_size == SIZE
    assert beats
