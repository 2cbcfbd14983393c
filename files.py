"""The files of data sets and submissions: content-addressed chunks in the database, and folders on a worker's disk.

A content is stored once, by the SHA-256 of its bytes, and lives as long as a row names it (`OWNERS`).
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import delete, exists, insert, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from models import FILE_NAME_LENGTH, UNSYNCHRONIZED, Chunk, Content, RawData, RawDataFile, SubmissionFile, db

CHUNK_SIZE = 2**20  # bytes
HELD_IN_MEMORY = 2**16  # bytes of a posted file, of which a request may have many
MOST_HASHES = 1000  # in one SQL statement
STRETCH = 64  # chunks: what a transaction stores on SQLite, where others that write wait for its end, some 0.2 s
LET_OTHERS_WRITE = 0.01  # seconds after it: who waits for SQLite's lock asks for it now and then
OWNERS = (
    RawDataFile.sha256,
    SubmissionFile.sha256,
    RawData.split_is,
    RawData.y_train,
    RawData.X_train,
    RawData.X_test,
)  # the columns that name a content
UNOWNED = [~exists().where(owner == Content.sha256) for owner in OWNERS]

EMPTY = hashlib.sha256().hexdigest()


class CorruptContent(Exception):
    """A stored content is not what its hash says."""


def name_fault(name: str) -> str | None:
    """Return why `name` is no safe file name, or None: it is joined to folders, on any system."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    if "\N{REPLACEMENT CHARACTER}" in name:  # what the multipart parser makes of other bytes
        return "is not UTF-8"
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        return "is no plain file name"
    if any(unicodedata.category(character) == "Cc" for character in name):
        return "holds a control character"
    if length > FILE_NAME_LENGTH:
        return f"has {length} bytes, more than {FILE_NAME_LENGTH}"
    return None


class Spool(tempfile.SpooledTemporaryFile):
    """A posted file, on disk unless it is small. It is hashed as it is written: once, from its beginning to its end."""

    def __init__(self) -> None:
        super().__init__(max_size=HELD_IN_MEMORY)
        self._sha256 = hashlib.sha256()

    def write(self, piece: bytes) -> int:
        self._sha256.update(piece)
        return super().write(piece)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written, hexadecimal: the name of its content."""
        return self._sha256.hexdigest()


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """Read a file from its beginning, CHUNK_SIZE bytes at a time."""
    file.seek(0)
    while chunk := file.read(CHUNK_SIZE):
        yield chunk


def digest(file: BinaryIO) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal: the name of its content."""
    sha256 = hashlib.sha256()
    for chunk in chunks_of(file):
        sha256.update(chunk)
    return sha256.hexdigest()


def store(
    file: BinaryIO, session: Session | None = None, sha256: str | None = None, beat: Callable[[], object] = lambda: None
) -> str:
    """Store a file's bytes, if they are not stored yet, and return their SHA-256, which may be given if it is known.

    Give the session whose transaction also writes the row that names the content: nobody can remove it in between.
    Without one, it is anybody's to remove until a row names it, and stored by a transaction of its own; on SQLite,
    where others wait for its end, by several short ones. What those have left undone is done by whoever stores the
    content next, and seen by nobody before. `beat` is called after each chunk, or each such transaction; what it raises
    ends the storing.
    """
    sha256 = sha256 or digest(file)
    n_chunks = -(-file.seek(0, os.SEEK_END) // CHUNK_SIZE)
    if session is not None:
        _store(file, session, sha256, range(n_chunks), beat)
    elif db.engine.dialect.name == "sqlite":
        engine = db.engine.execution_options(writes=True)
        for start in range(0, max(n_chunks, 1), STRETCH):
            with Session(engine) as own, own.begin():
                _store(file, own, sha256, range(start, min(start + STRETCH, n_chunks)))
            beat()
            time.sleep(LET_OTHERS_WRITE)
    else:
        with Session(db.engine) as own, own.begin():
            _store(file, own, sha256, range(n_chunks), beat)
    return sha256


def _store(
    file: BinaryIO, session: Session, sha256: str, positions: range, beat: Callable[[], object] = lambda: None
) -> None:
    """Store the content's row and those of its chunks at the positions that are not there yet."""
    dialect = import_module(f"sqlalchemy.dialects.{session.get_bind().dialect.name}")  # PostgreSQL's takes 2.5 MB
    new = dialect.insert(Content).values(sha256=sha256, size=file.seek(0, os.SEEK_END)).on_conflict_do_nothing()
    known = select(Content.sha256).filter_by(sha256=sha256).with_for_update(read=True)
    there: Collection[int] = ()
    while session.scalar(new.returning(Content.sha256)) is None:  # waits for whoever is storing or removing it
        if session.scalar(known):
            there = set(session.scalars(select(Chunk.position).filter_by(sha256=sha256)))
            break
    connection, add = session.connection(), insert(Chunk.__table__)
    for position in positions:
        if position not in there:
            file.seek(position * CHUNK_SIZE)
            connection.execute(add, {"sha256": sha256, "position": position, "data": file.read(CHUNK_SIZE)})
            beat()


@contextmanager
def stored_ahead(contents: Mapping[str, BinaryIO]) -> Iterator[None]:
    """On SQLite, store large files, by their hashes, which the block's transaction stores and names: so it is short.

    Where the block fails, as what it names is refused, they are not left to the next sweep.
    """
    large = []
    if db.engine.dialect.name == "sqlite":
        large = [sha256 for sha256, file in contents.items() if file.seek(0, os.SEEK_END) > STRETCH * CHUNK_SIZE]
    if large:
        db.session.rollback()  # while it reads, SQLite's log of what is written grows
    try:
        for sha256 in large:
            store(contents[sha256], sha256=sha256)
        yield
    except BaseException:
        if large:  # that there may be no room to do so is no other error
            with suppress(OperationalError), Session(db.engine.execution_options(writes=True)) as own, own.begin():
                remove_unowned(own, large)
        raise


def read(sha256: str) -> Iterator[bytes]:
    """Read a content chunk by chunk, with no transaction open in between.

    Raises
    ------
    CorruptContent
        It is not there, or at its end turns out to be something else.
    """
    engine, found, position = db.engine, hashlib.sha256(), 0
    statement = select(Chunk.data).where(Chunk.sha256 == sha256)
    while True:
        with engine.connect() as connection:
            chunk = connection.scalar(statement.where(Chunk.position == position))
        if chunk is None:
            break
        found.update(chunk)
        yield chunk
        position += 1
    if found.hexdigest() != sha256:
        raise CorruptContent(sha256)


class _Chunks(io.RawIOBase):
    """Chunks as a stream; what is not read of them is never asked for."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._rest and (chunk := next(self._chunks, None)):
            self._rest = memoryview(chunk)
        n = min(len(buffer), len(self._rest))
        buffer[:n], self._rest = self._rest[:n], self._rest[n:]
        return n


def open_content(sha256: str) -> BinaryIO:
    """Open a content to be read from its beginning to where one likes; raises CorruptContent as `read` does."""
    return io.BufferedReader(_Chunks(read(sha256)))


def unowned(session: Session) -> set[str]:
    """Return the contents that no row names: of an upload or split under way, or of one that died."""
    return set(session.scalars(select(Content.sha256).where(*UNOWNED)))


def remove_unowned(session: Session, contents: Iterable[str | None]) -> None:
    """Remove those of the contents that no row names any more, in the transaction that removed their owners.

    Their rows are locked first, so that an upload of the same content either is seen here or stores it anew.
    """
    wanted = sorted({sha256 for sha256 in contents if sha256})
    session.flush()
    for start in range(0, len(wanted), MOST_HASHES):
        some = Content.sha256.in_(wanted[start : start + MOST_HASHES])
        session.execute(select(Content.sha256).where(some).order_by(Content.sha256).with_for_update())
        session.execute(delete(Content).where(some, *UNOWNED), execution_options=UNSYNCHRONIZED)


def folder_hash(contents: Mapping[str, str]) -> str:
    """Return the SHA-256 of files together, given the hashes of their contents by their names."""
    return hashlib.sha256(json.dumps(sorted(contents.items())).encode()).hexdigest()


def save_files(dir_data: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write the files of `data` into the folder `dir_data`, all or none of them.

    Parameters
    ----------
    dir_data : path
        The folder to make. One that exists, whoever made it, is left as it is.
    data : mapping
        `data["files"]` maps safe file names to their content: bytes, or an iterable of bytes.

    Raises
    ------
    ValueError
        A name is no safe file name.
    """
    target = Path(dir_data)
    folder = _folder_beside(target)
    try:
        for name, content in data["files"].items():
            if fault := name_fault(name):
                raise ValueError(f"the file name {name!r} {fault}")
            with (folder / name).open("xb") as file:
                file.writelines([content] if isinstance(content, bytes) else content)
                file.flush()
                os.fsync(file.fileno())  # before its folder has its name
        if not target.exists():
            folder.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise, another process was faster
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder_beside(target: Path) -> Path:
    """Make a temporary folder beside `target`, and the one above, which others may remove as long as it is empty."""
    while True:
        try:
            return Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=target.parent))
        except FileNotFoundError:
            with suppress(FileExistsError):
                target.parent.mkdir(parents=True)
