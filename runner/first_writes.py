"""The memory that a fold writes to first, copied ahead by the process that waits for its work.

After a fork all pages are shared, and the first write to each copies it, in a fault of its own. A small fold has some
2,000 of these, most of them for Python's reference counts: a quarter of its time. `find` has a throwaway child do the
work of such a fold, and sees what it wrote to (admin-guide/mm/pagemap of the kernel's documentation); `copy` asks the
kernel for these copies at once (MADV_POPULATE_WRITE of madvise(2), since Linux 5.14). Nothing but time depends on it.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from .sandbox.system import PR_SET_DUMPABLE, libc, prctl

PAGE = os.sysconf("SC_PAGESIZE")  # bytes
MOST_PAGES = 2048  # that a process which waits has for itself: 8 MB
TOGETHER = 32  # spans that are copied between two looks at whether it is enough
PRESENT, EXCLUSIVE = 1 << 63, 1 << 56  # bits of a page in pagemap
MADV_POPULATE_WRITE = 23

Span = tuple[int, int]  # address and length in bytes


def find(work: Callable[[], object]) -> list[Span]:
    """Return what the work, in a throwaway child, writes to of what this process has; nothing where it cannot be told.

    Call it with one thread.
    """
    report, report_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(report)
        try:
            prctl(PR_SET_DUMPABLE, 1)  # else its own pagemap belongs to root
            before = set(_own_pages())
            work()
            pages = np.array(sorted(set(_own_pages()) - before), dtype="u8")
            with os.fdopen(report_end, "wb") as file:
                file.write(pages[:MOST_PAGES].tobytes())
        finally:  # whatever the kernel said
            os._exit(0)
    os.close(report_end)
    with os.fdopen(report, "rb") as file:
        pages = np.frombuffer(file.read(), dtype="u8")
    os.waitpid(child, 0)
    breaks = np.flatnonzero(np.diff(pages) != 1) + 1
    return [(int(run[0]) * PAGE, len(run) * PAGE) for run in np.split(pages, breaks) if len(run)]


def copy(spans: list[Span], enough: Callable[[], bool]) -> None:
    """Have this process's own copies of the spans, unless it is `enough` before."""
    with suppress(AttributeError):  # no such call
        for start in range(0, len(spans), TOGETHER):
            if enough():
                return
            for address, length in spans[start : start + TOGETHER]:
                libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), MADV_POPULATE_WRITE)


def _own_pages() -> Iterator[int]:
    """Yield the numbers of the writable private pages that this process alone has."""
    with open("/proc/self/maps") as maps, open("/proc/self/pagemap", "rb") as pagemap:
        for line in maps:
            span, mode, *_ = line.split()
            if mode.startswith("rw") and mode.endswith("p"):
                first, end = (int(text, 16) // PAGE for text in span.split("-"))
                pagemap.seek(8 * first)
                bits = np.frombuffer(pagemap.read(8 * (end - first)), dtype="u8")
                yield from (first + np.flatnonzero((bits & PRESENT != 0) & (bits & EXCLUSIVE != 0))).tolist()
