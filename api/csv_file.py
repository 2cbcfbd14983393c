"""Judge a data set's CSV when it is posted, reading it as a stream: nothing here holds more than a record."""

import csv
import io
import math
from collections.abc import Iterator
from typing import BinaryIO

LONGEST_RECORD = 4 * 2**20  # characters

csv.field_size_limit(LONGEST_RECORD)


class BadCSV(ValueError):
    """The CSV cannot be used; the message says why, without the file's name."""


def is_csv(name: str) -> bool:
    return name.lower().endswith(".csv")


def is_python(name: str) -> bool:
    return name.lower().endswith(".py")


def records(file: BinaryIO) -> Iterator[list[str]]:
    """Yield the CSV's records, its header first, without blank lines. Raises BadCSV."""
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    lines = _Lines(text)
    try:
        for record in csv.reader(lines):
            lines.characters = 0
            if record:
                yield record
    except UnicodeDecodeError:
        raise BadCSV("is not UTF-8 text") from None
    except csv.Error as error:
        raise BadCSV(f"is no CSV: {error}") from None
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


def judge(file: BinaryIO, target_column: str) -> None:
    """Raise BadCSV unless the CSV has a row; KeyError, with the columns, where the target is none of them."""
    file.seek(0)
    rows = records(file)
    header = next(rows, [])
    if not header:
        raise BadCSV("is empty")
    if target_column not in header:
        raise KeyError(header)
    if next(rows, None) is None:
        raise BadCSV("has no rows below its header")


def too_few_rows(file: BinaryIO, held_out_test: float) -> int | None:
    """Return the number of rows if holding out this fraction leaves none to train on, else None.

    As in scikit-learn's `train_test_split`, the held-out part has ceil(held_out_test * n) of n rows. Only as many
    rows are read as it takes to know.
    """
    rows = records(file)
    next(rows, None)
    n = 0
    for n, _ in enumerate(rows, start=1):
        if n - math.ceil(held_out_test * n) >= 1:
            return None
    return n
