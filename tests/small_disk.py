"""A disk of a few MB that only some processes see, at a path of their own: a tmpfs in a mount namespace."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers import DIES_WITH_PARENT

MB = 1_000_000  # bytes
PIECE = 4096  # bytes that a file takes at least
MOUNT = 'mount -t tmpfs -o "size=$1,mode=711" none "$2" && echo there && exec sleep infinity'


@dataclass(frozen=True)
class SmallDisk:
    """What a command runs behind to see the disk, at which path, and where this process sees it."""

    within: list[str]
    path: Path
    seen: Path

    def fill(self, left: int = 0) -> None:
        """Leave so many bytes free."""
        with (self.seen / "filler").open("ab") as filler:
            while (free := (self._free() - left) // PIECE * PIECE) > 0:
                with suppress(OSError):  # a task has taken some of it meanwhile
                    os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), free)

    def empty(self) -> None:
        """Make room again."""
        (self.seen / "filler").unlink(missing_ok=True)

    def _free(self) -> int:
        status = os.statvfs(self.seen)
        return status.f_bavail * status.f_frsize


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[SmallDisk]:
    """Mount a disk of so many bytes at a folder, for those who run behind `within`."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a disk of its own needs root on Linux")
    path.mkdir(parents=True, exist_ok=True)
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", MOUNT, "sh", str(size), str(path)]
    with subprocess.Popen([*DIES_WITH_PARENT, *command], stdout=subprocess.PIPE) as holder:
        try:
            if holder.stdout.readline() != b"there\n":
                pytest.skip("mount namespaces are refused")
            within = ["nsenter", f"--target={holder.pid}", "--mount", f"--wdns={Path.cwd()}"]
            yield SmallDisk(within, path, Path(f"/proc/{holder.pid}/root{path}"))
        finally:
            holder.kill()
