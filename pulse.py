"""The signs of life of an execution, and the three reasons to end it early."""

import logging
import math
import time
from typing import Any

from listening import Listener
from models import DATABASE_GONE
from recording import Claim

log = logging.getLogger(__name__)

LOOK_INTERVAL = 1.0  # seconds between two looks at whether the row is still ours
TOGETHER = 0.1  # seconds in which the next change of state makes a write of this one needless


class NotOurs(Exception):
    """The row was replaced or deleted, or another execution has claimed it."""


class Cancelled(Exception):
    """Somebody told RQ to stop the job."""


class Stopping(Exception):
    """This worker has been asked to stop, and the task did not end in time."""


class Pulse:
    """The signs of life of an execution, written when they are due, with what is new.

    Call it when it is due; it tells whether it has asked the database, an outage of which is waited for.
    Raises NotOurs, Cancelled, Stopping.
    """

    def __init__(self, claim: Claim, listener: Listener, interval: float) -> None:
        self._claim = claim
        self._listener = listener
        self._interval = interval
        self._news: dict[str, Any] = {}
        self._news_due = math.inf
        self._looked_at = self._beat_at = time.monotonic()

    def add(self, **news: Any) -> None:
        """Have these columns written within TOGETHER."""
        self._news |= news
        self._news_due = min(self._news_due, time.monotonic() + TOGETHER)

    def wait(self) -> float:
        """Seconds until the next call is due."""
        beat_due, look_due = self._beat_at + self._interval, self._looked_at + LOOK_INTERVAL
        due = min(self._news_due, beat_due, look_due, self._listener.stop_at)
        return max(0.0, due - time.monotonic())

    def __call__(self) -> bool:
        at = time.monotonic()
        if self._listener.stopping and at >= self._listener.stop_at:
            raise Stopping
        stopped = self._listener.job_stopped
        try:
            if at >= min(self._news_due, self._beat_at + self._interval):
                ours = self._claim.heartbeat(**self._news)
                self._news, self._news_due, self._beat_at = {}, math.inf, at
                self._listener.job_heartbeat()
            elif stopped or at >= self._looked_at + LOOK_INTERVAL:
                ours = self._claim.holds()
            else:
                return False
        except DATABASE_GONE as error:
            log.warning("%s: no database: %s", self._claim.name, error.orig)
            ours = True
            self._news_due = at + LOOK_INTERVAL if self._news else math.inf
            self._beat_at = at - self._interval + LOOK_INTERVAL
            self._listener.job_heartbeat()
        self._looked_at = at
        if not ours:
            raise NotOurs
        if stopped:
            raise Cancelled
        return True
