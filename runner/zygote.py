"""The zygote: a clean process that has imported what submissions import, and forks the slots.

Started once per host, by `exec` with a minimal environment, so that no memory of the service is in it. It computes
nothing but its rehearsal, which says why.

    python -m runner.zygote DESCRIPTOR      the control socket; messages as in wire.py
"""

import gc
import importlib
import os
import platform
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from . import rehearsal, sandbox, selftest, slot, tree, wire
from .scratch import sweep, take_number
from .settings import Settings

LOOK_INTERVAL = 1.0  # seconds between two looks at what has ended, and two attempts to fork a slot
# What submissions import most: a fold's first use would cost it tens of milliseconds.
PRELOADED = (
    "numpy",
    "pandas",
    "joblib",
    "scipy.sparse",
    "scipy.stats",
    "scipy.optimize",
    "scipy.special",
    "sklearn.calibration",
    "sklearn.cluster",
    "sklearn.compose",
    "sklearn.decomposition",
    "sklearn.discriminant_analysis",
    "sklearn.dummy",
    "sklearn.ensemble",
    "sklearn.feature_extraction.text",
    "sklearn.feature_selection",
    "sklearn.gaussian_process",
    "sklearn.impute",
    "sklearn.isotonic",
    "sklearn.kernel_ridge",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.multiclass",
    "sklearn.multioutput",
    "sklearn.naive_bayes",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "sklearn.svm",
    "sklearn.tree",
    "sklearn.utils.parallel",
)


def main(control: socket.socket) -> None:
    """Import, then fork a slot for each request, until the worker's main process is gone and all slots with it."""
    tree.become_subreaper()
    settings, _files = wire.receive(control)
    preload()
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parents[1]]
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, signal.SIG_IGN)  # it ends when its worker does
    sandbox.protect()
    secrets = [Path(path) for path in settings.pop("secrets")]
    shared = Settings(Path(settings.pop("scratch")), secrets=secrets, **settings)
    if shared.first_uid is not None:
        sandbox.open_ways(sandbox.readable_paths(), [shared.scratch])
    prepared = sandbox.prepare(hidden=shared.hidden, uid=shared.first_uid)
    if not prepared.uid:  # no folders for a user that their processes cannot become
        shared = replace(shared, first_uid=None)
    try:
        found = selftest.probe(shared.scratch, prepared, uid=shared.first_uid, secrets=secrets, layers=shared.layers)
    finally:
        tree.end_all(os.getpid())  # what a self-test that failed has left
    shared = replace(shared, level=found.level, expected=found.applied & sandbox.LAYERS.keys())
    wire.send(control, {"ready": {"level": found.level, "missing": found.missing, "versions": versions()}})
    try:
        rehearsal.rehearse()
    except Exception:  # of what submissions import, as they may meet it: folds are only slower
        traceback.print_exc()
    keep_for_good()
    slots: set[int] = set()  # the process ids of the living ones
    asked_for: list[int] = []  # the sockets of those that are still to be forked
    sweep(shared.scratch)
    while True:
        select.select([control], [], [], LOOK_INTERVAL)
        reap(slots, shared.scratch)
        try:
            if select.select([control], [], [], 0)[0]:
                _message, [fd] = wire.receive(control)
                asked_for.append(fd)
        except (EOFError, ConnectionError):
            return
        try:
            while asked_for:
                slots.add(fork_slot(control, asked_for, shared))
                os.close(asked_for.pop(0))
        except (OSError, RuntimeError) as error:  # no process to be had, or no room for its lock: another time
            print(f"no slot yet: {error}", file=sys.stderr, flush=True)


def fork_slot(control: socket.socket, asked_for: Sequence[int], settings: Settings) -> int:
    """Fork a slot with the first of these sockets; return its process id. Raises OSError, RuntimeError."""
    number, lock = take_number(settings.scratch)
    try:
        if (pid := os.fork()) == 0:
            try:
                control.close()
                for other in asked_for[1:]:
                    os.close(other)
                slot.main(socket.socket(fileno=asked_for[0]), number, settings)
            finally:
                os._exit(1)  # whatever has failed: it must not go on as a second zygote
        return pid
    finally:
        os.close(lock)


def preload() -> None:
    """Import what submissions import, for good: without gc, which would look at all of it over and over."""
    gc.disable()
    for name in PRELOADED:
        with suppress(ModuleNotFoundError):  # of another version of scikit-learn, in RUNNER_PYTHON
            importlib.import_module(name)
    gc.enable()
    keep_for_good()


def keep_for_good() -> None:
    """Keep what there is out of gc's sight, in children too: its writes would copy the pages that they share."""
    gc.collect()
    gc.freeze()


def versions() -> dict[str, str]:
    """Return the versions of Python and of what computes."""
    modules = {"numpy": "numpy", "pandas": "pandas", "scikit-learn": "sklearn"}
    return {"python": platform.python_version()} | {
        name: sys.modules[module].__version__ for name, module in modules.items()
    }


def reap(slots: set[int], scratch: Path) -> None:
    """Collect slots that ended, and end and remove what a slot that was killed has left to us."""
    before = len(slots)
    with suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            slots.discard(pid)
    tree.end_all(os.getpid(), spare=slots)
    if len(slots) < before:
        sweep(scratch)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
