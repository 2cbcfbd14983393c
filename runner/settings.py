"""What the zygote tells its slots: where their tasks run, and under which restrictions."""

import math
import mmap
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import sandbox
from .scratch import MOST_SLOTS


@dataclass(frozen=True)
class Settings:
    """What all slots of a zygote share.

    scratch : the folder of all running tasks.
    environ : the environment of a task's processes.
    secrets : files and folders of the service.
    first_uid : the first of slot 0's two own users, the other slots' follow; None where we are not root.
    layers : the restrictions to apply; fewer emulate a platform that lacks some.
    began : when the zygote did, by time.time().
    starts : when each slot's present task began, by time.time(), infinity for none; shared by all slots.
    level : what the zygote's self-test found the restrictions to be worth; a fold is never said to have had more.
    expected : the restrictions that took hold there; a fold that lacks one is not run.
    """

    scratch: Path
    environ: dict[str, str]
    secrets: Sequence[Path] = ()
    first_uid: int | None = None
    layers: Sequence[str] = tuple(sandbox.LAYERS)
    began: float = field(default_factory=time.time)
    starts: memoryview = field(default_factory=lambda: shared_floats(MOST_SLOTS, math.inf))
    level: str = "strong"
    expected: Collection[str] = ()

    @property
    def hidden(self) -> list[Path]:
        """What no fold may read, wherever it lies: the secrets, and all beside the folder of running tasks."""
        return [*self.secrets, self.scratch.parent]

    def places(self, folder: Path, number: int) -> "list[Place]":
        """Return where the tasks of a slot are in turn: its next one gets ready while one may still run."""
        first = None if self.first_uid is None else self.first_uid + 2 * number
        return [Place(i, folder / str(i), None if first is None else first + i) for i in (0, 1)]


def shared_floats(count: int, value: float) -> memoryview:
    """Return floats that this process shares with those it forks."""
    floats = memoryview(mmap.mmap(-1, 8 * count)).cast("d")
    for i in range(count):
        floats[i] = value
    return floats


@dataclass(frozen=True)
class Place:
    """A task's own folder and user, None for ours; `number` among those of its slot."""

    number: int
    home: Path
    uid: int | None
