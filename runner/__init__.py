"""Trains and tests one submission on one fold in an isolated process; knows no database, no queue, no web.

The worker uses what is named here. `Zygote` starts a clean process (zygote.py) that forks slots. A slot is a supervisor
(slot.py) and a stem (stem.py), from which its tasks' processes are forked: each gets ready (entry.py), waits for one
task (waiting.py), and does it (child.py). The supervisor watches it (tree.py) and hands back what it left, which
host.py checks.
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
