"""What `make run` starts at a terminal ends with Ctrl-C, and where the terminal is lost."""

import ctypes
import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests

from servers import ROOT, environment_of, free_port, is_alive, release, wait_until

START = 120  # seconds
GONE = 60  # seconds in which everything ends
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Terminal:
    """A terminal with the service in its foreground."""

    def __init__(self, home: Path, before: set[psutil.Process]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/healthz"
        self.keyboard, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "run.py", "start", "web", "worker"],
            **{"stdin": terminal, "stdout": terminal, "stderr": terminal, "cwd": ROOT},
            env=environment_of(home, port, GRACE_PERIOD="3"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # our end of it is its controlling terminal
        )
        os.close(terminal)
        os.set_blocking(self.keyboard, False)
        self._before = before  # processes of the test run
        self._known: set[psutil.Process] = set()

    def is_ready(self) -> bool:
        self.read()
        self.living()
        with suppress(requests.RequestException):
            queues = requests.get(self.url, timeout=5).json()["queues"]
            return bool(queues) and all(queue["workers"] for queue in queues.values())
        return False

    def read(self) -> None:
        """Show what it prints to nobody, or it would wait for us."""
        with suppress(BlockingIOError, OSError):
            while os.read(self.keyboard, 65536):
                pass

    def living(self) -> set[psutil.Process]:
        self._known.update(set(psutil.Process().children(recursive=True)) - self._before)
        return {process for process in self._known if is_alive(process)}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    before = set(psutil.Process().children(recursive=True))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans become our children
    home = tmp_path / "home"
    home.mkdir()
    release(environment_of(home, 0))
    opened = Terminal(home, before)
    try:
        wait_until(opened.is_ready, START, "the service is ready")
        yield opened
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0)
        for process in opened.living():
            process.kill()
        opened.process.wait()


def is_of_queue_server(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # it ended meanwhile
        return "queue_keeper.py" in " ".join(process.cmdline()) or "valkey" in process.name()
    return False


def press_ctrl_c(terminal: Terminal) -> None:
    os.write(terminal.keyboard, b"\x03")


def press_ctrl_c_twice(terminal: Terminal) -> None:
    press_ctrl_c(terminal)
    press_ctrl_c(terminal)


def close_terminal(terminal: Terminal) -> None:
    os.close(terminal.keyboard)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found by a subreaper, which Linux alone has")
@pytest.mark.parametrize("end", [press_ctrl_c, press_ctrl_c_twice, close_terminal])
def test_nothing_is_left(terminal: Terminal, end: Callable[[Terminal], None]) -> None:
    queue_server = {process for process in terminal.living() if is_of_queue_server(process)}
    end(terminal)
    others = lambda: (terminal.read(), terminal.living() - queue_server)[1]  # noqa: E731
    wait_until(lambda: not others(), GONE, f"everything has ended but {others()}")
    wait_until(lambda: not terminal.living(), GONE, "the queue server ends after its last client")
