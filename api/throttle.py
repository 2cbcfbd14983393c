"""Slows down who sends wrong passwords. Nobody waits here: who is too fast is told for how long (429, Retry-After).

Counted is what an address tries for one user, and, more generously, what it tries at all: behind one address there may
be a whole class. It counts for this process alone, and is forgotten with it.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

MOST_KEYS = 10_000  # remembered; the one that tried longest ago is forgotten first


class Throttle:
    """Grants a key `burst` tries at once, then one in `interval` seconds.

    What it keeps of a key is the moment by which its tries are paid for, at an interval each (the generic cell rate
    algorithm of ITU-T I.371).
    """

    def __init__(self, burst: int, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._credit = burst * interval
        self._interval = interval
        self._clock = clock
        self._paid_by: OrderedDict[str, float] = OrderedDict()  # oldest try first
        self._lock = Lock()

    def take(self, key: str) -> int:
        """Grant a try (0), or return the seconds until there is one."""
        at = self._clock()
        with self._lock:
            paid_by = max(at, self._paid_by.get(key, at)) + self._interval
            late = round(paid_by - at - self._credit, 6)  # sums of fractions are not exact
            if late > 0:
                return math.ceil(late)
            self._paid_by[key] = paid_by
            self._paid_by.move_to_end(key)
            while len(self._paid_by) > MOST_KEYS:
                self._paid_by.popitem(last=False)
            return 0

    def give_back(self, key: str) -> None:
        """Take the last try for none."""
        with self._lock:
            if key in self._paid_by:
                self._paid_by[key] -= self._interval


class PasswordTries:
    """The tries of addresses: for one user 10 at once, then one in 6 s; for all users ten times that."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._of_user = Throttle(burst=10, interval=6.0, clock=clock)
        self._of_address = Throttle(burst=100, interval=0.6, clock=clock)

    def take(self, address: str, username: str) -> int:
        """Grant a try (0), or return the seconds until there is one."""
        if wait := self._of_user.take(f"{address} {username}"):
            return wait
        if wait := self._of_address.take(address):
            self._of_user.give_back(f"{address} {username}")
        return wait

    def give_back(self, address: str, username: str) -> None:
        """Take the last try for none: the password was right."""
        self._of_user.give_back(f"{address} {username}")
        self._of_address.give_back(address)


def source(address: str | None) -> str:
    """Return what tries are counted by: an IPv4 address, or the network of 64 bits that an IPv6 host has to itself."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:  # a Unix socket
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)
