"""gunicorn's worker, in which no client keeps a thread for long: each has PATIENCE, and gains more by what it does.

gunicorn itself waits without end for a client that stops in the middle of its headers, its body or its answer, and four
of them would be all that a web process has threads for.
"""

import errno
import logging
import select
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import TConn, ThreadWorker

PATIENCE = 30.0  # seconds that all waiting for the client may take, in one request
LINGER = 1.0  # seconds for a client to hang up after its last answer
PIECE = 4096  # bytes
RATE = 20_000  # bytes, read or written, that give a second of it back
UNSENT = 131_072  # bytes that the kernel takes ahead; by default it may be MBs, and a slow line's progress not seen

log = logging.getLogger(__name__)


class ClientSocket(socket.socket):
    """A connection to a client; one that is too slow looks like one that the client has closed."""

    def __init__(self, plain: socket.socket, client: Any) -> None:
        super().__init__(fileno=plain.detach())
        self._client = client
        self._given_up = False
        if self.family != socket.AF_UNIX and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self.begin()

    def begin(self) -> None:
        """Begin with another request."""
        self._patience = PATIENCE

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return what has come, b"" at the end."""
        while not self._given_up:
            try:
                data = super().recv(size, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            self._gain(len(data))
            return data
        return b""

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of the data. Raises ConnectionResetError."""
        rest = memoryview(data)
        while rest:
            try:
                sent = self.send(rest, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLOUT)
                if self._given_up:
                    raise ConnectionResetError(errno.ECONNRESET, "the client is too slow") from None
                continue
            self._gain(sent)
            rest = rest[sent:]

    def end(self) -> None:
        """Say that nothing follows, and wait a while for the client to hang up: closed at once, it may lose the end."""
        deadline = time.monotonic() + LINGER
        with suppress(OSError):
            self.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self.settimeout(left)
                if not super().recv(PIECE):
                    break
        self._given_up = True

    def _gain(self, size: int) -> None:
        self._patience = min(PATIENCE, self._patience + size / RATE)

    def _wait(self, event: int) -> None:
        """Wait until the client moves; give it up where there is no patience left."""
        began = time.monotonic()
        poll = select.poll()
        poll.register(self, event)
        if not poll.poll(max(0.0, self._patience) * 1000):
            self._given_up = True
            log.info("%s: too slow, the connection is closed", self._client)
        self._patience -= time.monotonic() - began


class PatientWorker(ThreadWorker):
    """gunicorn's worker with threads."""

    def load_wsgi(self) -> None:
        """Load the application. Where that cannot start, the main process is to end: it would try again and again."""
        try:
            super().load_wsgi()
        except SystemExit as error:
            print(error, file=sys.stderr)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def handle(self, conn: TConn) -> Any:
        """Handle a request in its thread, and there end the connection: gunicorn would wait in its main thread."""
        if isinstance(conn.sock, ClientSocket):
            conn.sock.begin()
        else:
            client = conn.client[0] if isinstance(conn.client, tuple) else "a client of a Unix socket"
            conn.sock = ClientSocket(conn.sock, client)
        goes_on = super().handle(conn)
        if goes_on is False:
            conn.sock.end()
        return goes_on
