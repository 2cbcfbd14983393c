"""Keeps the processes of one `worker.py`: forks them, forks again those that die, and ends them all."""

import gc
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

log = logging.getLogger(__name__)

STEADY_AFTER = 10.0  # seconds of life after which a process is forked again at once
SHORTEST_PAUSE = 0.05  # seconds, half the first pause
LONGEST_PAUSE = 30.0  # seconds before a process that keeps dying is forked again


class Processes:
    """The children of this process. SIGTERM or SIGINT sets `stopping`; a second SIGINT kills them all at once."""

    def __init__(self) -> None:
        self.stopping = False
        self._killing = False
        self._running: dict[int, tuple[str, float]] = {}  # name and time of birth, by pid
        self._pauses: dict[str, tuple[float, float]] = {}  # length of the last pause and its end, by name
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        signal.signal(signal.SIGINT, self._asked_to_stop)

    def _asked_to_stop(self, signum: int, _frame: object) -> None:
        self._killing = self._killing or (signum == signal.SIGINT and self.stopping)
        self.stopping = True

    def lacks(self, name: str) -> bool:
        """Whether the process of that name is to be forked now: it does not run, and its pause is over."""
        if any(name == running for running, _ in self._running.values()):
            return False
        return time.monotonic() >= self._pauses.get(name, (0.0, 0.0))[1]

    def fork(self, name: str, run: Callable[[], None]) -> None:
        """Fork a process that calls `run`, with the default handlers of signals, then ends.

        Where the machine has no process to give, another try is due after a pause.
        """
        gc.freeze()  # pages stay shared: gc's writes would copy them
        # Until the child has handlers of its own: ours would only note there that we are to stop
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            pid = os.fork()
            if pid == 0:
                self._be_child(name, run, mask)
            self._running[pid] = (name, time.monotonic())
        except OSError as error:
            log.error("%s: not started, another try in %.1f s: %s", name, self._pause(name), error)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _be_child(self, name: str, run: Callable[[], None], mask: set[signal.Signals]) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a terminal it comes to all: the parent decides
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._wake.close()
            self._waker.close()
            run()
            status = 0
        except Exception:  # whatever ended the child, its parent forks another
            log.exception("%s: ended by an error", name)
        finally:
            logging.shutdown()
            os._exit(status)  # the parent's stack, below us, is not ours to unwind

    def wait(self, timeout: float, *others: Any) -> None:
        """Return when a child has ended, a signal came, one of the other files is readable, or after `timeout` s."""
        select.select([self._wake, *others], [], [], timeout)
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            pass
        self._reap()

    def _reap(self) -> None:
        for pid, (name, born) in list(self._running.items()):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
            del self._running[pid]
            if self.stopping:
                continue
            pause = self._pause(name, steady=time.monotonic() - born > STEADY_AFTER)
            log.warning("%s: process %d is gone, another starts in %.1f s", name, pid, pause)

    def _pause(self, name: str, steady: bool = False) -> float:
        """Have a process forked again after a pause: none if it was steady, else twice the last one; return it."""
        pause = 0.0 if steady else min(LONGEST_PAUSE, 2 * self._pauses.get(name, (SHORTEST_PAUSE, 0.0))[0])
        self._pauses[name] = (pause or SHORTEST_PAUSE, time.monotonic() + pause)
        return pause

    def signal(self, prefix: str, signum: int) -> None:
        """Send a signal to the children whose names begin with `prefix`."""
        for pid, (name, _) in self._running.items():
            if name.startswith(prefix):
                os.kill(pid, signum)

    def end(self, prefix: str, grace: float) -> None:
        """End these children: SIGTERM, and SIGKILL to what is left after `grace` s or a second SIGINT."""
        self.signal(prefix, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while any(name.startswith(prefix) for name, _ in self._running.values()):
            if self._killing or time.monotonic() > deadline:
                self.signal(prefix, signal.SIGKILL)
            self.wait(0.1)
