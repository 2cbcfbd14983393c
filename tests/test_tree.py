"""The processes of a task, seen from their supervisor."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest
from restricted import SLOT, needs_root
from workers import SOON

from runner import sandbox, tree
from servers import DIES_WITH_PARENT, wait_until

N_PROCESSES = 5


@pytest.fixture
def asleep() -> Iterator[dict[str, list[psutil.Process]]]:
    """Processes of ours, and of a slot's user."""
    with ExitStack() as stack:
        made: dict[str, list[psutil.Process]] = {}
        for name, user in (("ours", {}), ("theirs", {"user": SLOT, "group": SLOT})):
            made[name] = []
            for _ in range(N_PROCESSES):
                process = subprocess.Popen([*DIES_WITH_PARENT, "sleep", str(SOON)], **user)
                stack.callback(process.wait)
                stack.callback(process.kill)
                made[name].append(psutil.Process(process.pid))
        yield made


def stopped(processes: list[psutil.Process]) -> list[bool]:
    return [process.status() == psutil.STATUS_STOPPED for process in processes]


@needs_root
@pytest.mark.skipif(not sandbox.LINUX, reason="kill(2) is Linux's")
def test_a_users_processes_are_stopped_at_once_and_nobody_elses(asleep: dict[str, list[psutil.Process]]) -> None:
    tree.stop_user(SLOT)
    wait_until(lambda: all(stopped(asleep["theirs"])), SOON, "the user's processes stand still")
    assert not any(stopped(asleep["ours"]))


@needs_root
def test_no_processes_of_a_user_are_stopped_too() -> None:
    tree.stop_user(SLOT)
