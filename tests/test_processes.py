"""The processes of one worker.py, kept alive. test_worker.py kills and stops them as they run."""

import subprocess
import sys

import pytest

from servers import ROOT

WITHOUT_PROCESSES = """
import os, resource
from processes import Processes

if os.getuid() == 0:
    os.setuid(64_999)  # root may have any number
processes = Processes()
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
processes.fork("child", lambda: print("child ran", flush=True))
resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
while not processes.lacks("child"):
    processes.wait(0.01)
processes.fork("child", lambda: print("child ran", flush=True))
while not processes.lacks("child"):  # until it ended by itself: processes.end() may come before it printed
    processes.wait(0.01)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_NPROC of a user is Linux's")
def test_what_the_machine_has_no_process_for_is_tried_again() -> None:
    command = [sys.executable, "-c", WITHOUT_PROCESSES]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "child ran\n")
    assert run.stderr.startswith("child: not started, another try in 0.1 s: [Errno 11]")
