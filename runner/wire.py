"""Messages between worker, zygote and slot: JSON with a length before it, and open files, on a Unix stream socket.

main of worker -> zygote   {"slot": "new"}, one file: the slot's end of a new socket pair
worker -> slot             {"fold": {...}} or {"split": {...}}, files as `task.py` lists them
                           {"stop": cause}
slot -> worker             {"progress": {...}}, {"log": text}, {"finished": {...}} with the files of the result,
                           {"no room": ""}: the disk is full, the task was not begun
"""

import json
import os
import socket
import struct
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO

HEADER = struct.Struct("!I")
MAX_FILES = 253  # of one message: SCM_MAX_FD, unix(7)


def pack(message: dict[str, Any]) -> bytes:
    body = json.dumps(message).encode()
    return HEADER.pack(len(body)) + body


def send(sock: socket.socket, message: dict[str, Any], files: Sequence[int] = ()) -> None:
    """Send one message, with copies of the open `files`; block until it is written."""
    data = pack(message)
    sent = socket.send_fds(sock, [data], list(files)) if files else 0
    sock.sendall(data[sent:])


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next message and its files, which are not inherited by programs that this process starts.

    Raises EOFError when the other end is gone.
    """
    head, files, _flags, _address = socket.recv_fds(sock, HEADER.size, MAX_FILES)
    for fd in files:
        os.set_inheritable(fd, False)
    try:
        head += _read(sock, HEADER.size - len(head)) if head else _read(sock, HEADER.size)
        return json.loads(_read(sock, HEADER.unpack(head)[0])), files
    except BaseException:
        for fd in files:
            os.close(fd)
        raise


def _read(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError("the other end is gone")
        data += piece
    return bytes(data)


def anonymous_file(folder: str | os.PathLike | None = None) -> BinaryIO:
    """Return an empty file that no path leads to: in memory where the system can and no `folder` is given."""
    if folder is None and hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("datarun", os.MFD_CLOEXEC), "w+b")
    return tempfile.TemporaryFile(dir=folder)
