"""The embedded queue server: one Valkey for every process that shares a DATARUN_HOME, on a Unix socket without a port.

Whoever cannot connect calls `ensure`, which runs `queue_keeper.py`. That leaves a keeper behind, detached, which starts
the server, and ends it soon after its last client. All of it lives in `DATARUN_HOME/queue`, closed to others:

    start.lock      held by who is starting a keeper
    keeper.lock     held by the keeper while it lives
    server.sock     (in the temporary folder where that path would be no address: see `socket_path`)
    server.log
    appendonlydir/  the data: a cache of the database, set aside when the server cannot read it
"""

import contextlib
import hashlib
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis
from redis.connection import UnixDomainSocketConnection

import queue_keeper
from queue_keeper import START_TIMEOUT, answers, ask, locked

PAUSE_AFTER_FAILURE = 5  # seconds in which a process that saw a start fail does not try again
ADDRESS = re.compile(rb"[^\s=]{1,100}")  # of a socket: the kernel's limit is 108 bytes, on macOS 104 (unix(7)); in what
# the server tells of its clients, which RQ reads, spaces part fields, and = parts names from values: CLIENT INFO

_failures: dict[Path, float] = {}  # time.monotonic() of the last failure to start, by folder


class EmbeddedConnection(UnixDomainSocketConnection):
    """A connection to the server of `home` that starts it where nobody listens."""

    def __init__(self, home: Path, **options: object) -> None:
        super().__init__(path=str(socket_path(home)), **options)
        self.home = home

    def _connect(self) -> socket.socket:
        try:
            return super()._connect()
        except (FileNotFoundError, ConnectionRefusedError):
            ensure(self.home)
            return super()._connect()


def url(home: Path) -> str:
    """The address for programs that only take one; they do not start the server."""
    return f"unix://{socket_path(home)}"


def socket_path(home: Path) -> Path:
    """Where the server of `home` listens. Raises PermissionError where that place is open to others."""
    home = home.resolve()
    path = home / "queue" / "server.sock"
    if ADDRESS.fullmatch(os.fsencode(path)):
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"datarun-{os.getuid()}-{digest}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise PermissionError(f"{folder} is not a folder of this user alone (mode 0700)")
    return folder / path.name


def ensure(home: Path) -> Path:
    """Start the server of `home` unless it answers; return its socket.

    Any number of threads and processes may do so at once: one starts it, the others wait.
    Raises redis.ConnectionError where it does not answer within START_TIMEOUT.
    """
    path = socket_path(home)
    folder = home.resolve() / "queue"
    if time.monotonic() < _failures.get(folder, -PAUSE_AFTER_FAILURE) + PAUSE_AFTER_FAILURE:
        raise redis.ConnectionError(f"the embedded queue server did not start a moment ago, see {folder}/server.log")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder / "start.lock"):
            if not answers(path):
                _run_keeper(folder, path)
    except (OSError, subprocess.SubprocessError) as error:
        _failures[folder] = time.monotonic()
        raise redis.ConnectionError(f"the embedded queue server did not start, see {folder}/server.log") from error
    return path


def stop(home: Path) -> None:
    """End the server of `home`, if there is one; return when its keeper ends too."""
    folder = home.resolve() / "queue"
    if folder.exists():
        with contextlib.suppress(OSError):
            ask(socket_path(home), "SHUTDOWN")
        with locked(folder / "keeper.lock"):
            pass


def _run_keeper(folder: Path, path: Path) -> None:
    """Start a keeper and return when its server answers; it inherits nothing, neither environment nor terminal."""
    with (folder / "server.log").open("ab") as log:
        subprocess.run(
            [sys.executable, queue_keeper.__file__, str(folder), str(path)],
            **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": folder, "env": {}},
            start_new_session=True,
            timeout=START_TIMEOUT,
            check=True,
        )
