"""A task's process begins its work with every restriction that the self-test found, or not at all."""

import json
import os
import signal
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

from restricted import Bench, in_setup, needs_linux

from runner import entry, sandbox, wire
from runner.posted import PACKAGE
from runner.settings import Settings

pytestmark = needs_linux


def begin(bench: Bench, expected: list[str]) -> dict[str, Any]:
    """Give work to a process that has resource limits alone; return its first mark, its end and what it printed."""
    (bench.scratch / PACKAGE).mkdir()
    log, log_end = os.pipe()
    marks, marks_end = socket.socketpair()
    policy = sandbox.Policy(bench.scratch, parent=os.getpid(), limits=None, layers=["limits"])
    if (pid := os.fork()) == 0:
        settings = Settings(bench.scratch, {}, layers=["limits"], expected=expected)
        entry.wait_and_work(log_end, marks_end.detach(), policy, bench.prepared, 0, settings)
    os.close(log_end)
    marks_end.close()
    limits = asdict(sandbox.ProcessLimits(memory=1 << 30))
    wire.send(marks, {"kind": "fold", "job": {}, "limits": limits, "mapped": 0})
    mark = marks.recv(1000)
    if mark:  # else it has ended
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with os.fdopen(log) as file:
        return {"mark": json.loads(mark or "null"), "status": status, "log": file.read()}


def test_a_process_with_all_that_is_expected_begins(tmp_path: Path) -> None:
    assert in_setup("ordinary", tmp_path, begin, ["limits"]) == {
        "mark": {"mark": "started", "layers": ["limits"]}, "status": -signal.SIGKILL, "log": "",
    }  # fmt: skip


def test_a_process_that_lacks_a_restriction_ends_before_its_work(tmp_path: Path) -> None:
    assert in_setup("ordinary", tmp_path, begin, ["limits", "seccomp", "landlock"]) == {
        "mark": None,
        "status": entry.FAILED,
        "log": "RuntimeError: restrictions did not take hold: landlock, seccomp\n",
    }
