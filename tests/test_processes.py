"""The processes of one worker.py, kept alive. test_worker.py kills and stops them as they run."""

import subprocess
import sys

import pytest

from servers import ROOT

WITHOUT_PROCESSES = """
import os, resource, signal
from processes import Processes

if os.getuid() == 0:
    os.setuid(64_999)  # root may have any number


def run():
    print("child ran, with these signals blocked:", *signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)


processes = Processes()
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
processes.fork("child", run)
resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
while not processes.lacks("child"):
    processes.wait(0.01)
processes.fork("child", run)
while not processes.lacks("child"):  # until it ended by itself: processes.end() may come before it printed
    processes.wait(0.01)
"""

STOPPED_AT_ONCE = """
import os, signal
from processes import Processes


def run():
    signal.alarm(30)
    signal.pause()


processes = Processes()
for number in range(10, 30):
    processes.fork(f"child {number}", run)
    processes.signal(f"child {number}", signal.SIGTERM)
print(*{signal.Signals(os.wait()[1]).name for _ in range(20)})
"""


def run_code(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_NPROC of a user is Linux's")
def test_what_the_machine_has_no_process_for_is_tried_again() -> None:
    run = run_code(WITHOUT_PROCESSES)
    assert (run.returncode, run.stdout) == (0, "child ran, with these signals blocked:\n")
    assert run.stderr.startswith("child: not started, another try in 0.1 s: [Errno 11]")


def test_a_child_that_has_just_been_forked_is_ended() -> None:
    run = run_code(STOPPED_AT_ONCE)
    assert (run.stdout, run.stderr) == ("SIGTERM\n", "")
