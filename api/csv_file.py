"""Judge a data set's table when it is posted, reading it as a stream: nothing here holds more than a record.

The end of its name says how the columns are separated, and whether it is compressed: as in runner/posted.py.
"""

import csv
import gzip
import io
import math
from collections.abc import Iterator
from typing import BinaryIO

from schemas import CORRUPT

LONGEST_RECORD = 4 * 2**20  # characters

csv.field_size_limit(LONGEST_RECORD)


class BadCSV(ValueError):
    """The CSV cannot be used; the message says why, without the file's name."""


TABLES = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}


def separator(name: str) -> str | None:
    """Return what separates the columns of a table of this name, None for another file."""
    return next((sep for ending, sep in TABLES.items() if name.lower().endswith(ending)), None)


def is_python(name: str) -> bool:
    return name.lower().endswith(".py")


def records(file: BinaryIO, name: str) -> Iterator[list[str]]:
    """Yield the table's records, its header first, without blank lines. Raises BadCSV."""
    unpacked = gzip.open(file) if name.lower().endswith(".gz") else file  # noqa: SIM115 (it holds nothing but `file`)
    text = io.TextIOWrapper(unpacked, "utf-8-sig", newline="")
    lines = _Lines(text)
    try:
        for record in csv.reader(lines, delimiter=separator(name)):
            if record:
                lines.characters = 0
                yield record
    except UnicodeDecodeError:
        raise BadCSV("is not UTF-8 text") from None
    except csv.Error as error:
        raise BadCSV(f"is no CSV: {error}") from None
    except (gzip.BadGzipFile, EOFError, CORRUPT) as error:
        raise BadCSV(f"cannot be unpacked: {error}") from None
    finally:
        text.detach()  # or the file would be closed with it


class _Lines:
    """The lines of a text; raises BadCSV where one record goes on for too long."""

    def __init__(self, text: io.TextIOBase) -> None:
        self._text = text
        self.characters = 0  # of the present record

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(LONGEST_RECORD + 1):
            self.characters += len(line)
            if self.characters > LONGEST_RECORD:
                raise BadCSV(f"has a record of more than {LONGEST_RECORD} characters")
            yield line


def judge(file: BinaryIO, name: str, target_column: str) -> None:
    """Raise BadCSV unless the table has a row; KeyError, with a target and the columns, where it is none of them.

    The target is a column, or several columns between commas; the name of a column may hold commas itself.
    """
    file.seek(0)
    rows = records(file, name)
    header = next(rows, [])
    if not header:
        raise BadCSV("is empty")
    begun: list[str] = []  # the pieces of a name that is no column yet
    for piece in [target_column] if target_column in header else target_column.split(","):
        begun.append(piece)
        name = ",".join(begun)
        if name in header or name.strip() in header:
            begun.clear()
    if begun:
        raise KeyError(begun[0].strip(), header)
    if next(rows, None) is None:
        raise BadCSV("has no rows below its header")


def too_few_rows(file: BinaryIO, name: str, held_out_test: float) -> int | None:
    """Return the number of rows if holding out this fraction leaves none to train on, else None.

    As in scikit-learn's `train_test_split`, the held-out part has ceil(held_out_test * n) of n rows. Only as many
    rows are read as it takes to know.
    """
    rows = records(file, name)
    next(rows, None)
    n = 0
    for n, _ in enumerate(rows, start=1):
        if n - math.ceil(held_out_test * n) >= 1:
            return None
    return n
