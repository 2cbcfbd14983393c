"""What a child copies while it waits is what folds write to, and nothing where there is no time."""

import ctypes
import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restricted import SETUPS, Bench, in_setup, needs_linux

from runner import first_writes, rehearsal

pytestmark = needs_linux
N_PAGES, WRITTEN = 64, [5, 6, 40]
PAGE = first_writes.PAGE


def copies(_bench: Bench) -> dict[str, Any]:
    """Have a work that writes to some pages of a map; tell which were found, and which a child then has."""
    memory = mmap.mmap(-1, N_PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    memory.write(b"x" * len(memory))
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory)) // PAGE

    def work() -> None:
        for page in WRITTEN:
            memory[page * PAGE] = 1

    def of_memory(pages: set[int]) -> list[int]:
        return sorted(page - first for page in pages if first <= page < first + N_PAGES)

    def own_pages_after(act: Callable[[], object]) -> list[int]:
        report, report_end = os.pipe()
        if (child := os.fork()) == 0:
            first_writes.prctl(first_writes.PR_SET_DUMPABLE, 1)
            act()
            os.write(report_end, json.dumps(of_memory(set(first_writes._own_pages()))).encode())
            os._exit(0)
        os.close(report_end)
        with os.fdopen(report, "rb") as file:
            pages = json.loads(file.read())
        os.waitpid(child, 0)
        return pages

    spans = first_writes.find(work)
    found = {page for address, length in spans for page in range(address // PAGE, (address + length) // PAGE)}
    return {
        "found": of_memory(found),
        "copied": own_pages_after(lambda: first_writes.copy(spans, enough=lambda: False)),
        "without time": own_pages_after(lambda: first_writes.copy(spans, enough=lambda: True)),
        "of a fold": len(first_writes.find(lambda: rehearsal.run(rehearsal.PLAIN))) > 100,
    }


@pytest.mark.parametrize("setup", SETUPS)
def test_what_a_work_writes_to_is_found_and_copied(setup: str, tmp_path: Path) -> None:
    assert in_setup(setup, tmp_path, copies) == {
        "found": WRITTEN,
        "copied": WRITTEN,
        "without time": [],
        "of a fold": True,
    }
