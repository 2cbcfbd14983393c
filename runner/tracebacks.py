"""Show exceptions as participants and organisers need them: from the first line of their own files on, without ours."""

import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from .posted import ORGANISER, PACKAGE

RUNNER = Path(__file__).parent
LINE_LENGTH = 10_000  # characters of a line
REFUSED = re.compile(r"TypeError: ([\w.]+)\(\) (?:takes|missing|got) ")  # how Python refuses arguments


def print_traceback(error: BaseException, home: Path) -> str | None:
    """Print the traceback from the first frame of the submission's files on, and return their package.

    Without one it begins in the data set's own files, whose package is returned; without those in the library that we
    called, and None is returned. Our own frames are left out. Where a call does not fit a function of the submission,
    which Python says before a line of that runs, its definition is the last line, and counts as one of its files.
    """
    shown = traceback.TracebackException.from_exception(error, lookup_lines=False)
    parts = _chain(shown)
    firsts = {package: [_first_frame(part.stack, home / package) for part in parts] for package in (PACKAGE, ORGANISER)}
    found = next((package for package, first in firsts.items() if any(i is not None for i in first)), None)
    for part, *first in zip(parts, *firsts.values(), strict=True):
        begin = next((i for i in first if i is not None), len(part.stack) if found else 0)
        part.stack = traceback.StackSummary.from_list(filter(_is_theirs, part.stack[begin:]))
    if found != PACKAGE and (definition := _called(shown, home / PACKAGE)):
        shown.stack.append(definition)
        found = PACKAGE
    for line in shown.format():
        sys.stderr.write(line if len(line) <= LINE_LENGTH else f"{line[:LINE_LENGTH]}...\n")
    return found


def _called(shown: traceback.TracebackException, folder: Path) -> traceback.FrameSummary | None:
    """Return where the function is defined that refused its arguments, if it is one of the files in the folder."""
    refused = REFUSED.match("".join(shown.format_exception_only()))
    if not refused:
        return None
    for module in filter(lambda module: isinstance(module, ModuleType), list(sys.modules.values())):
        if not Path(str(vars(module).get("__file__"))).is_relative_to(folder):
            continue
        found: Any = module
        for name in refused[1].split("."):
            found = getattr(found, "__dict__", {}).get(name)
        code = getattr(getattr(found, "__func__", found), "__code__", None)
        if code:
            return traceback.FrameSummary(code.co_filename, code.co_firstlineno, code.co_name)
    return None


def _chain(shown: traceback.TracebackException) -> list[traceback.TracebackException]:
    """Return an exception with all that it came from or is made of."""
    chain: dict[int, traceback.TracebackException] = {}
    todo = [shown]
    while todo:
        part = todo.pop()
        if part is not None and id(part) not in chain:
            chain[id(part)] = part
            todo += [part.__cause__, part.__context__, *(part.exceptions or [])]
    return list(chain.values())


def _first_frame(stack: traceback.StackSummary, folder: Path) -> int | None:
    return next((i for i, frame in enumerate(stack) if Path(frame.filename).is_relative_to(folder)), None)


def _is_theirs(frame: traceback.FrameSummary) -> bool:
    """Whether a frame is neither ours nor of the machinery that imports modules."""
    return not Path(frame.filename).is_relative_to(RUNNER) and not frame.filename.startswith("<frozen importlib")
