"""For the tests of the sandbox: a clean process, as root or as an ordinary user, that forks restricted children.

The process that runs pytest may have computed, and other users cannot reach its folders. `in_setup` runs a function of
a test module in a process that has neither fault, and hands back what it returns, as JSON.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  the tests' functions import the rest
import pytest
import users

from runner import sandbox
from runner.sandbox import process
from runner.sandbox.system import PR_SET_DUMPABLE, prctl

ORDINARY, SLOT = users.user(40), users.user(41)
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root")
SETUPS = [pytest.param("root", marks=needs_root), pytest.param("root_keeps_user", marks=needs_root), "ordinary"]
AVAILABLE = sandbox.prepare()
needs_linux = pytest.mark.skipif(not sandbox.LINUX, reason="needs Linux")
needs_every_layer = pytest.mark.skipif(
    AVAILABLE.landlock < 6 or AVAILABLE.filter is None or AVAILABLE.namespaces != {"network", "shm", "traces"},
    reason="needs a kernel that allows every layer",
)
TESTS = Path(__file__).parent
DEADLINE = 180  # seconds


@dataclass(frozen=True)
class Bench:
    """What a test's function gets in the clean process."""

    scratch: Path
    uid: int | None
    prepared: sandbox.Prepared

    def restricted(
        self, function: Callable[[], Any], layers: Collection[str] = tuple(sandbox.LAYERS), **limits: Any
    ) -> dict[str, Any]:
        """Run a function in a restricted child; return its `value` or `error`, `status` and the layers `applied`."""
        report, report_end = os.pipe()
        child = os.fork()
        if child == 0:
            self._be_child(function, layers, limits, report_end)
        os.close(report_end)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # loky's workers stay, and would hold the pipes open
        text = os.read(report, 1 << 16)
        os.close(report)
        return {"value": None, "error": None, **(json.loads(text) if text else {}), "status": status}

    def _be_child(
        self, function: Callable[[], Any], layers: Collection[str], limits: dict[str, Any], report: int
    ) -> None:
        try:
            os.setsid()
            os.environ.update(HOME=str(self.scratch), TMPDIR=str(self.scratch), JOBLIB_TEMP_FOLDER=str(self.scratch))
            os.chdir(self.scratch)
            room = {name: limits.pop(name) for name in ("shared_memory",) if name in limits}
            limited = sandbox.ProcessLimits(**limits)
            policy = sandbox.Policy(self.scratch, uid=self.uid, layers=layers, limits=limited, **room)
            result: dict[str, Any] = {"applied": sorted(sandbox.restrict(policy, self.prepared))}
            try:
                result["value"] = function()
            except Exception as error:  # reported to the test
                result["error"] = f"{type(error).__name__}: {error}"
            os.write(report, json.dumps(result).encode())
        finally:
            os._exit(0)


def in_setup(setup: str, tmp_path: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return function(bench, *arguments), run as in that set-up."""
    place = f"{function.__module__}:{function.__name__}"
    command = [sys.executable, __file__, setup, str(tmp_path), place, json.dumps(arguments)]
    environ = os.environ | {"PYTHONPATH": str(TESTS.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def main(setup: str, tmp_path: str, place: str, arguments: str) -> None:
    """Be the clean process."""
    scratch = Path(tmp_path, "scratch")
    scratch.mkdir(mode=0o700)
    if ROOT:
        assert sandbox.open_ways([*sandbox.readable_paths(), TESTS], [Path(tmp_path)])
    uid = {"root": SLOT, "root_keeps_user": None, "ordinary": None}[setup]
    if owner := ORDINARY if ROOT and setup == "ordinary" else uid:
        os.chown(scratch, owner, owner)
        if owner == ORDINARY:
            os.chown(tmp_path, owner, owner)
            process.change_user(ORDINARY)
            prctl(PR_SET_DUMPABLE, 1)  # as one that was started by this user
    sandbox.die_with(os.getppid())
    Path(tmp_path).chmod(0o711)
    module, name = place.split(":")
    function = getattr(importlib.import_module(module), name)
    bench = Bench(scratch, uid, sandbox.prepare(uid=uid))
    print(json.dumps(function(bench, *json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
