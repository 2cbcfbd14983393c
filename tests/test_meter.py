"""What a task uses is measured, however it evades the looks."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import Limits, meter, wire
from runner.folders import Size
from runner.meter import Meter
from servers import wait_until

MB = 1_000_000
SOON = 60  # seconds: a deadline, not a wait


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Meter]:
    """The meter of a task that is this process."""
    with wire.anonymous_file() as result:
        yield Meter(
            os.getpid(),
            os.getppid(),
            lambda: [os.getpid()],
            Limits(SOON, 1000 * MB, 64, MB, MB, 100 * MB, MB),
            disk=100 * MB,
            mapped=0,
            home=tmp_path,
            scratch=tmp_path,
            handed=[],
            result=result,
            labels=[],
            features=[],
        )


def test_files_that_move_away_are_all_found_once_the_task_stands_still(
    measured: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    def folder_size(*_: object) -> Size:
        taken.append(time.monotonic())
        return Size(0, 0, missed=len(taken) <= meter.MOST_MISSES)

    def looked_at(times: int) -> None:
        wait_until(lambda: measured.look([os.getpid()]) or len(taken) >= times, SOON, "the files are looked at")

    monkeypatch.setattr(meter, "folder_size", folder_size)
    wait_until(lambda: measured.look([os.getpid()]) or measured.is_evaded, SOON, "they have moved away twice")
    looked_at(len(taken) + 2)  # though these find all, as far as can be told
    assert measured.is_evaded
    measured.held_since = time.monotonic()
    wait_until(lambda: measured.look([os.getpid()]) or not measured.is_evaded, SOON, "they are all found")
