"""Labels as plain arrays: numbers, booleans or text, of one target (n,) or of t targets (n, t).

Targets of different kinds, such as text beside numbers, are a structured array (n,) with a field for each.
"""

import os
import sys
from typing import BinaryIO

import numpy as np

MOST_CLASSES = 10_000
PLAIN = "biufU"  # kinds of dtype
SURROGATES = 0xD800, 0xDFFF  # the first and the last: no text holds one, nor does UTF-8


class DataError(Exception):
    """The data set cannot be used; the message is for its organiser."""


def classes_of(y: np.ndarray) -> list:
    """Return the classes, sorted; for several targets a list of them for each."""
    if y.ndim == 2 and y.shape[1] > 1:
        return [_sorted_values(column) for column in y.T]
    return _sorted_values(y.ravel())


def _sorted_values(y: np.ndarray) -> list:
    """Return the different values of y, as np.unique does, which would sort all of them."""
    if y.dtype.kind == "O":
        return sorted(set(y.tolist()))
    if y.dtype.kind == "i" and y.size:
        least, most = int(y.min()), int(y.max())
        if most - least < len(y):
            return (np.flatnonzero(np.bincount(y.astype(np.int64) - least)) + least).tolist()
    return np.unique(y).tolist()


def has_targets(classes: list) -> bool:
    """Whether these are the classes of several targets."""
    return bool(classes) and isinstance(classes[0], list)


def n_columns(classes: list) -> int:
    """Return how many columns the probabilities of these classes have."""
    return sum(map(len, classes)) if has_targets(classes) else len(classes)


def may_be_classes(y: np.ndarray) -> bool:
    """Whether a classifier could be fitted to these labels; one cannot be to fractions."""
    return y.dtype.kind != "f" or bool((y == np.floor(y)).all())


def labels_in_memory(y: np.ndarray) -> np.ndarray:
    """Return labels as pandas would have given them: text as Python strings, different kinds as an array of objects."""
    if of_different_kinds(y):
        return np.column_stack([y[name].astype(object) for name in y.dtype.names])
    return y.astype(object) if y.dtype.kind == "U" else y


def of_different_kinds(y: np.ndarray) -> bool:
    """Whether these are labels of several targets that are not all of one kind."""
    return y.dtype.names is not None


def read_labels(file: BinaryIO, n_rows: int) -> np.ndarray:
    """Read labels from a .npy file that somebody else's code may have written.

    Raises ValueError where it holds anything but the labels of that many rows.
    """
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("labels in a version of .npy that they do not need")
    try:
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception:  # the header is parsed as Python: TokenError, MemoryError and others
        raise ValueError("labels with a header that cannot be read") from None
    size = os.fstat(file.fileno()).st_size - file.tell()
    fields = [dtype[name] for name in dtype.names or ()]
    if any(field.kind not in PLAIN or field.subdtype or is_long(field) for field in fields or [dtype]):
        raise ValueError(f"labels of type {dtype}")
    if shape[:1] != (n_rows,) or len(shape) > (1 if fields else 2) or n_rows < 1 or 0 in shape:
        raise ValueError(f"labels of shape {shape} for {n_rows} rows")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize != size:
        raise ValueError(f"labels of shape {shape} in {size} bytes")
    y = np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran_order else "C")
    for target in [y[name] for name in dtype.names or ()] or [y]:
        _check_values(target)
    return y


def is_long(dtype: np.dtype) -> bool:
    """Whether these are numbers longer than float64, which become neither Python's nor JSON."""
    return dtype.kind == "f" and dtype.itemsize > 8


def _check_values(y: np.ndarray) -> None:
    """Raise ValueError for numbers that are missing or infinite, and for text that Python cannot hold or write."""
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("labels that are missing or infinite")
    if y.dtype.kind == "U":
        codes = np.frombuffer(y.tobytes(), f"{y.dtype.byteorder}u4")
        first, last = SURROGATES
        if (codes > sys.maxunicode).any() or ((codes >= first) & (codes <= last)).any():
            raise ValueError("labels of text that is no Unicode")
