"""The processes of a task, seen from their supervisor."""

import os
import random
import subprocess
import sys
import time
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


SHORT_PROGRAMS = """
import resource, subprocess, threading, time

def start_programs():
    while time.monotonic() < end:
        subprocess.run(["sleep", "0.01"])

end = time.monotonic() + 2
threads = [threading.Thread(target=start_programs) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(sum(usage.ru_utime + usage.ru_stime for usage in usages))
"""


def test_short_programs_that_are_waited_for_count_as_they_are() -> None:
    with subprocess.Popen([sys.executable, "-c", SHORT_PROGRAMS], stdout=subprocess.PIPE, text=True) as process:
        cpu_time = tree.CpuTime(os.getpid(), [process.pid])
        while process.poll() is None:
            cpu_time.read([process.pid, *tree.descendants(process.pid)])
            time.sleep(random.uniform(0, 0.1))  # as supervisors look
        used = float(process.stdout.read())
    counted = cpu_time.read([]) - cpu_time.begin
    assert abs(counted - used) < 0.1 + 0.1 * used


def test_a_process_that_a_list_lacks_counts_once() -> None:
    burns = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burns], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        cpu_time = tree.CpuTime(os.getpid(), [process.pid])
        for listed in ([process.pid], [], [process.pid], [process.pid]):
            assert cpu_time.read(listed) - cpu_time.begin < 0.2
        process.communicate(b"\n")
