"""Looks at a task that may take long, while its limits are kept.

Where many processes are busy, to read of one what only it changes (its maps, its exact memory) can mean to wait until
it runs again and lets go of a lock.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

MOST_AT_ONCE = 4  # one for each kind of look
LONGEST_PAUSE = 1.0  # seconds

Found = TypeVar("Found")

_threads = ThreadPoolExecutor(MOST_AT_ONCE)


def start_threads() -> None:
    """Start all threads that looks are ever taken in, so that no later one has an id that nobody knows."""
    started = threading.Barrier(MOST_AT_ONCE)
    for begun in [_threads.submit(started.wait) for _ in range(MOST_AT_ONCE)]:
        begun.result()


class Look(Generic[Found]):
    """Has `work` done in a thread again and again.

    Parameters
    ----------
    work : returns what it has found.
    interval : seconds from the end of one look to the begin of the next, at least.
    share : of the time that looks may take, at most, unless the pause would be longer than LONGEST_PAUSE.
    """

    def __init__(self, work: Callable[..., Found], interval: float, share: float) -> None:
        self._work = work
        self._interval = interval
        self._share = share
        self._due = time.monotonic() + interval
        self._allowed = 0.0  # when the share has room for the next
        self._running: Future[tuple[Found, float, float]] | None = None

    def __call__(self, *arguments: object, at_once: bool = False) -> Found | None:
        """Return what the last look has found, once, else None; begin the next one where it is due, or asked for."""
        found = None
        if self._running and self._running.done():
            found, began, ended = self._running.result()
            self._running = None
            self._due = ended + self._interval
            self._allowed = ended + min((ended - began) / self._share, LONGEST_PAUSE)
        if self._running is None and time.monotonic() >= max(self._allowed, 0.0 if at_once else self._due):
            self._began = time.monotonic()
            self._running = _threads.submit(self._timed, *arguments)
        return found

    @property
    def takes(self) -> float:
        """The seconds that a look has taken that is not over yet; 0 where there is none."""
        return time.monotonic() - self._began if self._running and not self._running.done() else 0.0

    def _timed(self, *arguments: object) -> tuple[Found, float, float]:
        began = time.monotonic()
        return self._work(*arguments), began, time.monotonic()
