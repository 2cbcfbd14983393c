"""Stands in for a worker in a process of its own, at one level of isolation, for the hostile suite.

    python hostile_worker.py LEVEL FOLDER      requests on standard input, answers on standard output, a JSON a line

It holds what a worker holds: credentials in its environment, memory and files, labels, listening sockets. It tells each
submission where all of that is (`aim.json`, beside it), runs it, then an honest fold on the same slot, and answers how
both ended and what the first has left.
"""

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import users
from sklearn import datasets
from test_runner import SUBMISSIONS, Data, run, with_limits

from runner import Finished, FoldOutcome, Log, Slot, Zygote, sandbox, tree
from runner.sandbox import process
from runner.sandbox.system import PR_SET_DUMPABLE, prctl

ORDINARY, FIRST_SLOT = users.user(60), users.user(61)
NO_NAMESPACES = [layer for layer in sandbox.LAYERS if layer not in ("network", "shm", "traces", "uid")]
BEFORE_6_12 = [layer for layer in NO_NAMESPACES if layer not in ("landlock_scope", "landlock_tcp")]
LEVELS = {
    "root": None,  # all layers, users of the slots' own
    "ordinary": None,  # all layers that an ordinary user has
    "dyno": NO_NAMESPACES,  # an ordinary user who may not make namespaces
    "older": BEFORE_6_12,  # the same on an older kernel, where Landlock knows no signals
    "bare": [],  # no layer at all, as on macOS
}
SHARED = [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/run/lock")]
DEADLINE = 30  # seconds
REMOVAL = 10  # seconds for the processes that a task has left to go after its end
CREDENTIAL = "credential-of-the-service-" + "".join(map(str, range(9)))
LIMITS = {"wall_time": 20, "memory": 600_000_000, "processes": 64, "log": 1_000_000, "disk": 20_000_000}


class Worker:
    """The worker, with two slots: one for the submissions at hand, one for their neighbour."""

    def __init__(self, level: str, folder: Path) -> None:
        self._folder = folder
        self._scratch = folder / "scratch"
        self._credentials = folder / "credentials"
        self._credentials.write_text(CREDENTIAL)
        self._credentials.chmod(0o600)
        os.environ["DATABASE_URL"] = f"postgres://datarun:{CREDENTIAL}@127.0.0.1/datarun"
        self._sockets = {
            "tcp": listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "unix": listen(socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "unix")),
            "datagrams": listen(socket.AF_UNIX, socket.SOCK_DGRAM, str(folder / "datagrams")),
            "abstract": listen(socket.AF_UNIX, socket.SOCK_STREAM, f"\0hostile-{os.getpid()}"),
        }
        sandbox.protect()
        self._zygote = Zygote(sys.executable, self._scratch, first_uid=FIRST_SLOT, layers=LEVELS[level])
        self._zygote.start()
        self.isolation = self._zygote.isolation
        self._slots = [Slot(self._zygote.new_slot()) for _ in range(2)]
        self._data = {
            "iris": self._split("iris", datasets.load_iris(as_frame=True).frame, ["classifier"]),
            "marked": self._split("marked", with_marked_labels(), ["regressor"]),
        }
        self._users = set(range(FIRST_SLOT, FIRST_SLOT + 4)) if level == "root" else {ORDINARY}
        self._ours = self._processes()
        self._right = self._honest_fold()

    def _split(self, name: str, frame: pd.DataFrame, elements: list[str]) -> Data:
        folder = self._folder / name
        folder.mkdir()
        return Data(self._slots[0], folder, frame, elements)

    def run(
        self, submission: str, data: str = "iris", limits: dict[str, float] | None = None, neighbour: str | None = None
    ) -> dict[str, Any]:
        """Run a submission, then the honest one; return how they ended and what the first has left."""
        with self._beside(neighbour) if neighbour else nothing() as beside:
            before = self._listing()
            outcome, seconds = self._fold(0, submission, data, limits or {})
            answer = {
                "state": outcome.state,
                "cause": outcome.cause,
                "log": outcome.log_messages,
                "isolation": outcome.isolation,
                "predictions": None if outcome.test_predictions is None else outcome.test_predictions.tolist(),
                "seconds": seconds,
                "left": self._left_files(before),
            }
        return {
            **answer,
            "processes": self._left_processes(),
            "neighbour": beside[-1:],
            "next_is_right": self._honest_fold() == self._right,
            "worker_alive": self._zygote.poll() is None,
        }

    def _fold(self, slot: int, submission: str, data: str, limits: dict[str, float]) -> tuple[FoldOutcome, float]:
        task = self._task(submission, data, limits)
        began = time.monotonic()
        outcome, _events = run(self._slots[slot], task)
        return outcome, time.monotonic() - began

    def _task(self, submission: str, data: str, limits: dict[str, float]) -> Any:
        """Return a fold of a third of the training rows, with the aim beside the submission's files."""
        copy = self._folder / "submissions" / submission
        if not copy.exists():
            shutil.copytree(SUBMISSIONS / submission, copy)
        (copy / "aim.json").write_text(json.dumps(self._aim()))
        rows = np.arange(0, self._data[data].split.n_train, 3) if data == "marked" else np.arange(90)
        task = self._data[data].task(submission, rows, with_limits(**{**LIMITS, **limits}))
        return type(task)(**{**vars(task), "submission": copy})

    def _aim(self) -> dict[str, Any]:
        """Return what an attacker may wish to know."""
        addresses = {name: sock.getsockname() for name, sock in self._sockets.items()}
        addresses["abstract"] = addresses["abstract"].decode()
        return {
            "processes": [os.getpid(), *tree.descendants(os.getpid())],
            "files": [
                *map(str, (self._credentials, self._folder, self._scratch)),
                *(f"{self._scratch}/slot-1/{number}/{name}" for number in "01" for name in ("", "tmp", "submission")),
                *(str(path) for data in ("iris", "marked") for path in (self._folder / data).iterdir()),
                *map(str, (SUBMISSIONS, Path(__file__), SUBMISSIONS.parents[1] / "config.py")),
            ],
            "sockets": addresses,
        }

    def _honest_fold(self) -> list[bytes]:
        outcome, _seconds = self._fold(
            0, "logistic_regression", "iris", {"wall_time": DEADLINE, "memory": 2_000_000_000}
        )
        assert outcome.state == "TESTED", outcome.log_messages
        return [outcome.full_train_predictions.tobytes(), outcome.test_predictions.tobytes()]

    @contextmanager
    def _beside(self, submission: str) -> Iterator[list[str]]:
        """Have a neighbour train on the other slot; its cause at the end is appended to what this yields."""
        slot, causes = self._slots[1], []
        slot.start(self._task(submission, "iris", {}))
        while not isinstance(event := slot.receive(timeout=DEADLINE), Log):
            assert event is not None and not isinstance(event, Finished), event
        try:
            yield causes
        finally:
            slot.stop("cancelled")
            while not isinstance(event := slot.receive(timeout=DEADLINE), Finished):
                assert event is not None
            causes.append(event.outcome.cause)

    # What is left

    def _listing(self) -> set[str]:
        """Return what the folds' users own in the shared folders, all in scratch, and the keys of IPC objects."""
        found = {str(path) for path in self._scratch.iterdir()}
        for folder, folders, files in os.walk(self._scratch / "slot-0"):
            found |= {os.path.join(folder, name) for name in (*folders, *files)}  # noqa: PTH118 any name
        for home in (self._scratch / "slot-0" / number for number in "01"):  # one of them is the next task's
            found -= {str(home), str(home / "tmp"), str(home / "submission")}
        for folder in SHARED:
            found |= (
                {str(path) for path in folder.iterdir() if owner(path) in self._users} if folder.exists() else set()
            )
        for kind in ("shm", "sem", "msg"):
            rows = [line.split() for line in Path("/proc/sysvipc", kind).read_text().splitlines()]
            column = rows[0].index("uid")
            found |= {f"{kind} {row[1]}" for row in rows[1:] if int(row[column]) in self._users}
        for root in {sys.prefix, sys.base_prefix, "/", Path.home()}:
            found |= {str(path) for path in Path(root).glob("left-by-a-fold*")}
        return found

    def _left_files(self, before: set[str]) -> list[str]:
        """Return what there is that was not there before, once what is being removed is gone."""
        deadline = time.monotonic() + DEADLINE
        while (left := self._listing() - before) and time.monotonic() < deadline:
            time.sleep(0.01)
        return sorted(left)

    def _processes(self) -> set[int]:
        return {pid for pid in psutil.pids() if owner(Path("/proc", str(pid))) in self._users}

    def _left_processes(self) -> list[str]:
        """Return the processes of the folds' users that are not ours, once what is ending has ended."""
        deadline = time.monotonic() + REMOVAL
        while left := self._processes() - self._ours - self._slot_processes():
            if time.monotonic() > deadline:
                return [str(psutil.Process(pid)) for pid in left if psutil.pid_exists(pid)]
            time.sleep(0.01)
        return []

    def _slot_processes(self) -> set[int]:
        """Return zygote, slots and their supervisors: no task runs now, so nothing else is below."""
        found = set()
        for pid in tree.descendants(os.getpid()):
            with suppress(OSError):  # it has ended meanwhile
                if b"runner.zygote" in Path("/proc", str(pid), "cmdline").read_bytes():
                    found.add(pid)
        return found


@contextmanager
def nothing() -> Iterator[list[str]]:
    yield []


def owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def listen(family: int, kind: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind)
    sock.bind(address)
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def with_marked_labels() -> pd.DataFrame:
    """Return a data set whose labels are found wherever they lie: 123456.789012, 123457.789012 and so on."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"a": rng.normal(size=300), "b": rng.normal(size=300), "target": 123456.789012 + np.arange(300)}
    )


def become_ordinary(folder: Path) -> None:
    """Give up being root, with a way to the interpreter and the tests left open."""
    assert sandbox.open_ways([*sandbox.readable_paths(), SUBMISSIONS.parent], [folder])
    os.chown(folder, ORDINARY, ORDINARY)
    process.change_user(ORDINARY)
    prctl(PR_SET_DUMPABLE, 1)  # as one that was started by this user


def main(level: str, folder: str) -> None:
    if level != "root" and os.geteuid() == 0:
        become_ordinary(Path(folder))
    worker = Worker(level, Path(folder))
    print(json.dumps({"isolation": worker.isolation}), flush=True)
    for line in sys.stdin:
        print(json.dumps(worker.run(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
