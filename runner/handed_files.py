"""How processes of one fold hand files to each other, without the sockets that none of them may have.

multiprocessing gives a descriptor to another process by a socket (`multiprocessing.reduction.DupFd`); PyTorch asks it
to for each tensor that a process of a DataLoader has made. Without a socket its thread would fail, and whoever reads
the queue would wait for ever. So a file's content goes along instead, and becomes a file of the other one's own.
"""

import multiprocessing.reduction
import os
import stat
import tempfile
from typing import Any

from .sandbox.namespaces import SHARED_MEMORY

PIECE = 2**20  # bytes read at once

_by_socket = multiprocessing.reduction.DupFd


class CopiedFile:
    """Stands for an open file on its way to another process, as what DupFd returns does: pickle it, then `detach`."""

    def __init__(self, fd: int) -> None:
        pieces, offset = [], 0
        while piece := os.pread(fd, PIECE, offset):
            pieces.append(piece)
            offset += len(piece)
        self._content = b"".join(pieces)

    def detach(self) -> int:
        """Return the descriptor of a file with that content; whoever calls this closes it."""
        with tempfile.TemporaryFile(dir=SHARED_MEMORY) as file:
            file.write(self._content)  # whole, or an error: a write to the bare file may be cut
            file.seek(0)
            return os.dup(file.fileno())


def duplicate(fd: int) -> Any:
    """Be `DupFd`; pipes and sockets go by a socket, which is refused."""
    return CopiedFile(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else _by_socket(fd)


def install() -> None:
    """Have multiprocessing, in this process and those that it forks, hand files on so."""
    multiprocessing.reduction.DupFd = duplicate
