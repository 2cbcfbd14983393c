"""Trains and tests one submission on one fold in an isolated process; knows no database, no queue, no web.

The worker uses what is named here. `Zygote` starts a clean process (zygote.py) that forks slots (slot.py); a slot runs
one task at a time in a child (child.py), supervises it (tree.py) and hands back what it left, which host.py checks.
"""

from .host import Slot, Zygote
from .sandbox import LEVELS
from .task import (
    Event,
    Finished,
    FoldOutcome,
    FoldTask,
    Limits,
    Log,
    Measures,
    Progress,
    SlotLost,
    SplitOutcome,
    SplitTask,
)

__all__ = [
    "LEVELS", "Event", "Finished", "FoldOutcome", "FoldTask", "Limits", "Log", "Measures", "Progress", "Slot",
    "SlotLost", "SplitOutcome", "SplitTask", "Zygote",
]  # fmt: skip
