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


def test_who_is_found_once_and_then_missed_is_among_the_stopped(
    asleep: dict[str, list[psutil.Process]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (process.pid for process in asleep["ours"][:2])
    looks = iter([[one, other], [one]])  # the other was adopted in between
    monkeypatch.setattr(tree, "descendants", lambda _root, _spare: next(looks))
    assert tree.stop_all(os.getpid(), wait=lambda _pids, _block: None) == [one, other]
    wait_until(lambda: all(stopped(asleep["ours"][:2])), SOON, "both stand still")


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


def counted_and_used(code: str) -> tuple[float, float]:
    """Return the CPU seconds that a program is found to have taken, and those that it says."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        cpu_time = tree.CpuTime(os.getpid(), [process.pid])
        while process.poll() is None:
            cpu_time.read([process.pid, *tree.descendants(process.pid)])
            time.sleep(random.uniform(0, 0.1))  # as supervisors look
        used = float(process.stdout.read())
    return cpu_time.read([]) - cpu_time.begin, used


def test_short_programs_that_are_waited_for_count_as_they_are() -> None:
    counted, used = counted_and_used(SHORT_PROGRAMS)
    assert abs(counted - used) < 0.1 + 0.1 * used


IDLE_THEN_BUSY = """
import os, random, signal, sys, time

def live():
    time.sleep(random.uniform(0.05, 0.1))
    while time.process_time() < 0.012:
        pass
    os._exit(0)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
n, end = 0, time.monotonic() + 2
while time.monotonic() < end:
    n += 1
    if os.fork() == 0:
        live()
    time.sleep(0.02)
time.sleep(0.2)
print(0.012 * n)
"""


def test_processes_that_nobody_waits_for_count_though_they_were_idle_when_seen() -> None:
    counted, used = counted_and_used(IDLE_THEN_BUSY)
    assert counted > 0.7 * used


def test_a_process_that_a_list_lacks_counts_once() -> None:
    burns = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burns], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        cpu_time = tree.CpuTime(os.getpid(), [process.pid])
        for listed in ([process.pid], [], [process.pid], [process.pid]):
            assert cpu_time.read(listed) - cpu_time.begin < 0.2
        process.communicate(b"\n")
