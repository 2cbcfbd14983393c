"""Tries, in a throwaway child with a fold's restrictions, the attacks that they are there to stop.

    python -m runner.selftest [--json] [--secret PATH]...     a table of attacks, what stopped each, and the level

A judge, forked from the caller, stands for the worker and its zygote: not dumpable, with a secret in its memory and a
file, and open sockets. Beside it live a neighbouring fold and the attacker.
"""

import argparse
import ctypes
import errno
import json
import os
import select
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from . import sandbox
from .attacks import ATTACKS, SECRET, SURVIVAL, Address, Attack, Target, attacks_on
from .sandbox import LAYERS, Policy, Prepared, ProcessLimits
from .sandbox.system import PR_SET_CHILD_SUBREAPER, checked, libc, prctl

TIMEOUT = 60  # seconds: machines are busy
UID = 61998  # of the attacker, where none is given; its neighbour has the next
IPC_CREAT, IPC_RMID = 0o1000, 0
ESSENTIAL = {"credentials", "memory", "files"}  # the kinds without which a level is "none"
SWEPT = {"shared memory"}  # what the supervisor undoes where no layer stops it
REMEDIES = {
    "uid": "a worker that is started as root, with an interpreter that other users can reach",
    "landlock": "Linux 5.13 with Landlock enabled",
    "landlock_tcp": "Linux 6.7 with Landlock enabled",
    "landlock_scope": "Linux 6.12 with Landlock enabled",
    "seccomp": "Linux on x86-64 or arm64, with seccomp filters",
    "network": "user namespaces (or CAP_SYS_ADMIN as root)",
}


@dataclass(frozen=True)
class Row:
    """How an attack went: `by` names the layers that stop it, `result` the error that the attacker saw."""

    attack: str
    kind: str
    stopped: bool
    by: str
    result: str


@dataclass(frozen=True)
class Probe:
    """level : "strong", "partial" or "none", by what was tried. missing : a sentence, empty at strong."""

    level: str
    applied: frozenset[str]
    rows: tuple[Row, ...]
    missing: str


def probe(
    scratch: Path,
    prepared: Prepared,
    *,
    uid: int | None = None,
    secrets: Sequence[Path] = (),
    layers: Collection[str] = tuple(LAYERS),
) -> Probe:
    """Try the attacks; takes some 50 ms and forks, so call it with one thread.

    Parameters
    ----------
    scratch : where folds have their folders; other users can enter it if `uid` is given.
    prepared : what the folds are restricted by.
    uid : a user of a slot's own, as in `Policy`; the next one is a neighbour's.
    secrets : files and folders of the service that no fold may read, tried too.
    layers : fewer emulate a platform that lacks some; without "dumpable" the worker is not protected either.

    Raises RuntimeError if the self-test itself fails.
    """
    if not sandbox.LINUX:
        return Probe("none", frozenset(), (), missing(set(REMEDIES)))
    results, results_end = os.pipe()
    judge = os.fork()
    if judge == 0:
        os.close(results)
        in_child(lambda: Judge(scratch, prepared, uid, layers, attacks_on(secrets)).run(), results_end)
    os.close(results_end)
    report = read_report(results)
    os.close(results)
    os.kill(judge, signal.SIGKILL)
    os.waitpid(judge, 0)
    if report is None:
        raise RuntimeError("The self-test of the sandbox did not come to an end")
    rows = tuple(Row(**row) for row in report["rows"])
    breached = {row.kind for row in rows if not row.stopped} - SWEPT
    level = "none" if breached & ESSENTIAL else "partial" if breached else "strong"
    return Probe(level, frozenset(report["applied"]), rows, missing(set(report["missing"])) if breached else "")


def missing(layers: set[str]) -> str:
    """Return the sentence that says what would give more."""
    wanted = [f"{LAYERS[layer]} ({how})" for layer, how in REMEDIES.items() if layer in layers]
    return f"Missing: {'; '.join(wanted)}."


def in_child(work: Callable[[], object], report: int) -> NoReturn:
    """Do the work of a forked child, write what it returns as JSON, and end."""
    try:
        os.write(report, json.dumps(work()).encode())
    finally:  # whatever happened: this must not go on as a second caller
        os._exit(0)


def read_report(descriptor: int) -> dict | None:
    """Return the JSON that a child wrote, None if none came in time."""
    if not select.select([descriptor], [], [], TIMEOUT)[0]:
        return None
    text = os.read(descriptor, 1 << 16)
    return json.loads(text) if text else None


class Judge:
    """The process in the place of the worker: sets up what is attacked, and sees how it goes."""

    def __init__(
        self, scratch: Path, prepared: Prepared, uid: int | None, layers: Collection[str], secrets: list[Attack]
    ) -> None:
        self._prepared = prepared
        self._uid = uid
        self._layers = layers
        self._attacks = [*ATTACKS[:-1], *secrets, ATTACKS[-1]]  # after a new user namespace, all is different
        self._folder = Path(tempfile.mkdtemp(prefix="selftest-", dir=scratch))
        self._shared_memory = Path(f"/dev/shm/datarun-selftest-{os.getpid()}")
        self._sockets: list[socket.socket] = []

    def run(self) -> dict:
        """Return the rows, the layers that took hold, and those that would stop what was not stopped."""
        if "dumpable" in self._layers:
            sandbox.protect()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        segment = checked(libc.shmget(os.getpid(), ctypes.c_size_t(4096), IPC_CREAT | 0o666))
        try:
            return self._judge(self._set_up())
        finally:
            libc.shmctl(segment, IPC_RMID, None)
            self._shared_memory.unlink(missing_ok=True)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _set_up(self) -> Target:
        os.chdir(self._folder)  # the paths of Unix sockets are short
        self._folder.chmod(0o711)
        secret, open_folder = self._folder / "secret", self._folder / "open"
        secret.write_bytes(SECRET.value)
        secret.chmod(0o600)
        open_folder.mkdir()
        open_folder.chmod(0o777)
        self._shared_memory.write_bytes(SECRET.value)
        self._shared_memory.chmod(0o666)
        tcp = self._listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        udp = self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._listen(socket.AF_UNIX, socket.SOCK_STREAM, Target.unix)
        self._listen(socket.AF_UNIX, socket.SOCK_DGRAM, Target.datagrams)
        abstract = self._listen(socket.AF_UNIX, socket.SOCK_STREAM, f"\0datarun-selftest-{os.getpid()}")
        for name in Target.unix, Target.datagrams:
            Path(name).chmod(0o666)
        neighbour = self._policy("neighbour", 1)
        others = neighbour.scratch / "secret"
        others.write_bytes(SECRET.value)
        if neighbour.uid is not None and self._prepared.uid:
            os.chown(others, neighbour.uid, neighbour.uid)
        others.chmod(0o600)
        return Target(
            os.getpid(), self._start(neighbour), secret, others, open_folder, tcp, udp, abstract, self._shared_memory
        )

    def _listen(self, family: int, kind: int, address: Address) -> Address:
        sock = socket.socket(family, kind)
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        self._sockets.append(sock)
        return sock.getsockname()

    def _policy(self, name: str, number: int) -> Policy:
        """Return the policy of a fold with a folder of this name; its user is the `number`-th from the slot's."""
        scratch = self._folder / name
        scratch.mkdir(mode=0o700)
        uid = None if self._uid is None else self._uid + number
        if uid is not None and self._prepared.uid and "uid" in self._layers:
            os.chown(scratch, uid, uid)
        return Policy(scratch, uid=uid, parent=os.getpid(), layers=self._layers, limits=ProcessLimits(processes=64))

    def _start(self, policy: Policy) -> int:
        """Start a neighbour, a fold that waits, and return its process id once it is restricted."""
        ready, ready_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            sandbox.restrict(policy, self._prepared)
            os.close(ready)
            os.close(ready_end)
            signal.pause()
            os._exit(0)
        os.close(ready_end)
        os.read(ready, 1)
        os.close(ready)
        return pid

    def _judge(self, target: Target) -> dict:
        """Let the attacker attack; return what `run` does."""
        policy = self._policy("attacker", 0)
        results, results_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            in_child(lambda: self._be_attacker(policy, target), results_end)
        os.close(results_end)
        report = read_report(results)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if report is None:
            raise RuntimeError("The attacker did not come to an end")
        applied = {*report["applied"], "subreaper"}
        errors = {**report["errors"], SURVIVAL.name: self._reap(report["daemon"])}
        rows, lacking = [], set()
        for tried in (*self._attacks, SURVIVAL):
            error = errors[tried.name]
            stopping = set().union(*(layers for layers in tried.stops if layers <= applied))
            by = ", ".join(sorted(stopping))
            rows.append(Row(tried.name, tried.kind, error is not None, by, error or "succeeded"))
            if error is None:
                lacking |= set().union(*tried.stops)
        return {"rows": [asdict(row) for row in rows], "applied": sorted(applied), "missing": sorted(lacking - applied)}

    def _be_attacker(self, policy: Policy, target: Target) -> dict:
        """Restrict this process as a fold, try everything, leave a daemon behind."""
        for sock in self._sockets:
            sock.close()
        applied = sandbox.restrict(policy, self._prepared)
        daemon = start_daemon()
        errors = {tried.name: error_of(tried, target) for tried in self._attacks}
        return {"applied": sorted(applied), "errors": errors, "daemon": daemon}

    def _reap(self, daemon: int) -> str | None:
        """Return how the end of the daemon came about, None if it lives on: not ours to end."""
        try:
            os.kill(daemon, signal.SIGKILL)
            os.waitpid(daemon, 0)
        except OSError:
            return None
        return "killed"


def start_daemon() -> int:
    """Start a process in a session of its own whose parent has ended, and return its id."""
    pids, pids_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            os.closerange(0, 1024)
            signal.alarm(TIMEOUT)  # whoever would end it may be killed
            signal.pause()
        os.write(pids_end, str(daemon).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(pids, 20))


def error_of(tried: Attack, target: Target) -> str | None:
    """Try an attack; return the error that stopped it, None if it succeeded."""
    try:
        tried.run(target)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error)) if error.errno else "no effect"
    return None


def table(found: Probe) -> str:
    """Return the rows as text, and the level."""
    rows = [("attack", "stopped by", "result")]
    rows += [(row.attack, row.by if row.stopped else "nothing", row.result) for row in found.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{attack:{widths[0]}}  {by:{widths[1]}}  {result}" for attack, by, result in rows]
    return "\n".join([*lines, f"level: {found.level}", *([found.missing] if found.missing else [])])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or the same as JSON."""
    parser = argparse.ArgumentParser(prog="python -m runner.selftest", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print an object instead of a table")
    parser.add_argument("--secret", type=Path, action="append", default=[], help="a path that no fold may read")
    options = parser.parse_args(arguments)
    secrets = [path.resolve() for path in options.secret]
    uid = UID if sandbox.LINUX and os.geteuid() == 0 else None
    if uid is not None:
        sandbox.open_ways(sandbox.readable_paths())
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o711)
        found = probe(Path(scratch), sandbox.prepare(hidden=secrets, uid=uid), uid=uid, secrets=secrets)
    print(json.dumps(asdict(found) | {"applied": sorted(found.applied)}) if options.json else table(found))


if __name__ == "__main__":
    main()
