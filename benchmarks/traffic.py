"""A load generator for loopback: a few connections, kept alive, each sending one request after another."""

import base64
import http.client
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONNECTIONS = 4
TIMEOUT = 60  # seconds for one answer


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes | None = None


@dataclass
class Load:
    """What came back: each request's seconds, and those of the whole."""

    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.seconds) / self.wall

    @property
    def p99(self) -> float:
        """Seconds that 99 of 100 requests stay below."""
        return sorted(self.seconds)[int(0.99 * len(self.seconds))]


def load(
    url: str,
    user: tuple[str, str],
    request: Callable[[], Request],
    duration: float,
    connections: int = CONNECTIONS,
    most: int = 100_000,
) -> Load:
    """Send what `request` makes, over `connections`, for `duration` seconds; `most` requests on each at most.

    Raises RuntimeError where an answer is no success.
    """
    result, faults = Load(), []
    start = time.perf_counter()

    def send() -> None:
        try:
            result.seconds.extend(_send(url, user, request, start + duration, most))
        except Exception as error:  # of a thread: raised again below
            faults.append(error)

    threads = [threading.Thread(target=send) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.wall = time.perf_counter() - start
    if faults:
        raise faults[0]
    return result


def _send(url: str, user: tuple[str, str], request: Callable[[], Request], deadline: float, most: int) -> list[float]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
    credentials = base64.b64encode(":".join(user).encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    seconds = []
    while len(seconds) < most and time.perf_counter() < deadline:
        asked = request()
        start = time.perf_counter()
        connection.request(asked.method, asked.path, asked.body, headers)
        answer = connection.getresponse()
        content = answer.read()
        seconds.append(time.perf_counter() - start)
        if answer.status >= 400:
            raise RuntimeError(f"{asked.method} {asked.path}: {answer.status} {content[:300]!r}")
    connection.close()
    return seconds
