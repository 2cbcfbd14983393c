"""Lists as JSON or as a NumPy archive, streamed: rows are read in short transactions, a few MB at a time.

So a slow reader holds no connection, and no list is ever in memory.
"""

import io
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from flask import Response
from sqlalchemy import ColumnElement, Engine, LargeBinary, Row, Select, Text, bindparam, cast, func
from sqlalchemy.orm import InstrumentedAttribute, Session

from models import db

PAGE = 1000  # rows read at once
NPZ = "application/x-npz"
BATCH = 2 * 2**20  # bytes of large columns read at once
ESCAPED = 6  # bytes that a character takes in JSON at most, but for a few


class Delivery:
    """What wants to know whether an answer has been written; this one does not."""

    def note(self, row: Row) -> None:
        """This row is about to be written."""

    def complete(self, engine: Engine) -> None:
        """The last byte of the JSON was written. The HTTP answer has not ended: nobody has seen it complete before."""


def stream(
    dump: Callable[[Row], dict[str, Any]],
    statements: Sequence[Select],
    key: InstrumentedAttribute[int],
    large: Sequence[ColumnElement] = (),
    delivery: Delivery | None = None,
) -> Response:
    """Answer the rows that the statements select, each in the order of the unique integer `key`, as a JSON list.

    `large` are the columns that may hold MBs, or many of them together: only so many rows are read at once as their
    sizes allow.
    """
    engine = db.engine
    texts = _texts(engine, dump, _all_pages(engine, statements, key, large), delivery or Delivery())
    return _answer(texts, "application/json")


def stream_npz(
    entries: Callable[[Row], dict[str, bytes]],
    statements: Sequence[Select],
    key: InstrumentedAttribute[int],
    large: Sequence[ColumnElement],
    delivery: Delivery,
) -> Response:
    """Answer the rows as an archive that `numpy.load` reads; `entries` gives the files of a row by their names."""
    engine = db.engine
    pieces = _pieces(engine, entries, _all_pages(engine, statements, key, large), delivery)
    return _answer(pieces, NPZ)


def _answer(pieces: Iterator[str | bytes], content_type: str) -> Response:
    first = next(pieces)  # an error of the database is still an answer of its own here
    return Response(itertools.chain([first], pieces), content_type=content_type)


def _pieces(
    engine: Engine, entries: Callable[[Row], dict[str, bytes]], pages: Iterable[Sequence[Row]], delivery: Delivery
) -> Iterator[bytes]:
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for rows in pages:
            for row in rows:
                delivery.note(row)
                for name, content in entries(row).items():
                    archive.writestr(name, content)
                yield pipe.take()
    yield pipe.take()
    delivery.complete(engine)


class _Pipe(io.RawIOBase):
    """What a ZipFile writes to, without seeking, and what is taken from it meanwhile."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _all_pages(
    engine: Engine, statements: Sequence[Select], key: InstrumentedAttribute[int], large: Sequence[ColumnElement]
) -> Iterator[Sequence[Row]]:
    return itertools.chain.from_iterable(_pages(engine, statement, key, large) for statement in statements)


def _texts(
    engine: Engine, dump: Callable[[Row], dict[str, Any]], pages: Iterable[Sequence[Row]], delivery: Delivery
) -> Iterator[str]:
    before = "["
    for rows in pages:
        for row in rows:
            delivery.note(row)
        yield before + json.dumps([dump(row) for row in rows])[1:-1]
        before = ",\n"
    yield "]\n" if before != "[" else "[]\n"
    delivery.complete(engine)


def _pages(
    engine: Engine, statement: Select, key: InstrumentedAttribute[int], large: Sequence[ColumnElement]
) -> Iterator[Sequence[Row]]:
    sizes = statement.with_only_columns(key, sum(map(_size, large), start=0))
    page = (sizes if large else statement).where(key > bindparam("last")).order_by(key).limit(PAGE)
    some = statement.where(key.in_(bindparam("ids", expanding=True))).order_by(key)
    last = -1
    while rows := _read(engine, page, last=last):
        last = getattr(rows[-1], key.key)
        if not large:
            yield rows
            continue
        for ids in _batches(rows):
            if batch := _read(engine, some, ids=ids):
                yield batch


def _size(column: ColumnElement) -> ColumnElement[int]:
    """About how many bytes a value takes."""
    binary = isinstance(column.type, LargeBinary)
    return func.coalesce(func.length(column) if binary else ESCAPED * func.length(cast(column, Text)), 0)


def _batches(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Group (id, size) rows so that no group but one of a single row has more than BATCH bytes."""
    ids, total = [], 0
    for row_id, size in rows:
        if ids and total + size > BATCH:
            yield ids
            ids, total = [], 0
        ids.append(row_id)
        total += size
    yield ids


def _read(engine: Engine, statement: Select, **parameters: Any) -> Sequence[Row]:
    with Session(engine) as session:
        return session.execute(statement, parameters).all()
