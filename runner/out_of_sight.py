"""What a task's processes hold that neither a folder nor their resident memory shows, as far as we may look into them.

As root all of it is seen; with CAP_SYS_PTRACE (sandbox/oversight.py), all but files that are only mapped; else nothing.
"""

import errno
import os
import stat
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

from . import procfs
from .sandbox.namespaces import SHARED_MEMORY
from .sandbox.system import get_file

PIDFD_THREAD = os.O_EXCL  # since Linux 6.9: pidfd_open(2)
SOCKET_MEMORY = 425_984  # bytes, by default the most that one may have on its way: wmem_max of socket(7), doubled
PIPE_MEMORY = 65_536  # bytes, its capacity: pipe(7)
TOLD_MEMORY = 65_536  # bytes that an open file of the kernel's may keep of what it has told; most keep a page
FOLDER_MEMORY = 32_768  # bytes that an open folder may keep of its listing, as on ext4
ENTRY_SIZE = 200  # bytes of the kernel's record of a lock, or of a descriptor that another watches
ENTRIES = (b"\nlock:", b"\ntfd:")  # lines of proc_pid_fdinfo(5), never the first
MAP_SIZE = 256  # bytes of the kernel's record of a map, with its share of what leads to it
FILE_SIZE = 320  # bytes of that of an open file, which a map of it keeps
ANONYMOUS = b" 00:00 0"  # in a line of proc_pid_maps(5): device and inode
LINK_SIZE = 64  # bytes of its link to each ancestor that the map was inherited from
UNKNOWN_DEPTH = 100  # folders on a way that is too long to be told
ORPHAN_DEPTH = 64  # ancestors that a process whose parent has ended may have had

REMOVED = b" (deleted)"  # at the end of a line of proc_pid_maps(5)

Identity = tuple[int, ...]  # of a file: device and inode; of what is in the kernel: process and number


@dataclass
class OutOfSight:
    """Bytes, by what they are of.

    files : files and folders without a path. memory : files that are memory, and may be resident, too. kernel : its own
    memory, which is resident nowhere. longest : line of those that tell of maps. above : the numbers of folders that
    were removed, and that files or folders without a path keep.
    """

    files: dict[Identity, int] = field(default_factory=dict)
    memory: dict[Identity, int] = field(default_factory=dict)
    kernel: dict[Identity, int] = field(default_factory=dict)
    longest: int = 0
    above: dict[Identity, int] = field(default_factory=dict)

    def add_file(self, status: os.stat_result, known: Container[Identity], link: str) -> None:
        """Count a file that was removed, and is none of the `known` ones; by the `link` to it, what it keeps."""
        has_blocks = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        if has_blocks and not status.st_nlink and identity(status) not in known:
            kind = self.memory if status.st_dev == memory_device() else self.files
            kind[identity(status)] = status.st_blocks * 512
            self.above[identity(status)] = _count_above(link)


def identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def opened(
    pids: Iterable[int], known: Container[Identity], devices: Container[int | None] = (), longest: int = 0
) -> OutOfSight:
    """Return what the processes have open. What may grow unseen counts with the most that it may hold.

    Parameters
    ----------
    devices : those of the task's own folders, whose empty files are no files of the kernel's.
    longest : bytes of the longest text that the kernel is known to tell at once.
    """
    found = OutOfSight()
    told: list[Identity] = []  # the files of the kernel's
    for pid in pids:
        folder = procfs.folder(pid)
        for link in (f"{folder}/cwd", f"{folder}/exe"):
            for status in _found([link]):
                found.add_file(status, known, link)
        for number, status, link in _descriptors(pid, folder):
            if stat.S_ISSOCK(status.st_mode):
                found.kernel[identity(status)] = SOCKET_MEMORY
            elif stat.S_ISFIFO(status.st_mode):
                found.kernel[identity(status)] = PIPE_MEMORY
            elif _is_told(status) and status.st_dev not in devices:
                told.append((pid, number))
            else:
                found.add_file(status, known, link)
                if stat.S_ISDIR(status.st_mode):
                    found.kernel[pid, number, -1] = FOLDER_MEMORY
            info = _info(f"{folder}/fdinfo/{number}")
            longest = max(longest, len(info))
            found.kernel[pid, number, -2] = ENTRY_SIZE * sum(info.count(beginning) for beginning in ENTRIES)
    found.kernel.update(dict.fromkeys(told, max(TOLD_MEMORY, 2 * longest)))  # a buffer doubles until all fits
    return found


def mapped(pids: Iterable[int], known: Container[Identity], enough: float) -> OutOfSight:
    """Return what the processes have mapped, and their records of maps.

    It may take long where many processes are busy: they change their maps meanwhile.

    Parameters
    ----------
    pids : parents before their children, the task's first process first.
    enough : of the kernel's memory, in bytes; with more than that, the rest need not be looked at.
    """
    found = OutOfSight()
    total = 0
    depths: dict[int, int] = {}  # how many ancestors a process has, itself included
    for pid in pids:
        folder = procfs.folder(pid)
        parent = int((procfs.stat(folder) or [b"", b"0"])[1])
        depths[pid] = depths[parent] + 1 if parent in depths else ORPHAN_DEPTH if depths else 1
        count, of_files, removed = 0, 0, {}
        for line in procfs.lines(f"{folder}/maps"):
            count += 1
            of_files += ANONYMOUS not in line
            found.longest = max(found.longest, len(line))
            if line.endswith(REMOVED):
                span, _mode, _offset, device, inode, _name = line.split(maxsplit=5)
                removed.setdefault(device + inode, span)  # where it is first
        found.kernel[pid, -1] = (MAP_SIZE + LINK_SIZE * depths[pid]) * count + FILE_SIZE * of_files
        for start, end in (map(_number, span.split(b"-")) for span in removed.values()):
            link = f"{folder}/map_files/{start:x}-{end:x}"  # proc_pid_map_files(5)
            for status in _found([link]):
                found.add_file(status, known, link)
        total += found.kernel[pid, -1]
        if total > enough:
            break
    return found


def _count_above(link: str) -> int:
    """Return how many removed folders are kept by what a link of /proc leads to: those on the way to it."""
    try:
        path = os.readlink(link)
    except OSError as error:
        return UNKNOWN_DEPTH if error.errno == errno.ENAMETOOLONG else 0
    return 0 if os.path.isdir(os.path.dirname(path)) else path.count("/")


def _number(digits: bytes) -> int:
    return int(digits, 16)


def _descriptors(pid: int, folder: str) -> Iterator[tuple[int, os.stat_result, str]]:
    """Yield the numbers of what the process has open, what it is, and a link to it that holds until the next."""
    try:
        for number in os.listdir(f"{folder}/fd"):
            link = f"{folder}/fd/{number}"
            for status in _found([link]):
                yield int(number), status, link
    except PermissionError:  # the listing is for the owner of the process alone, who is root: proc_pid_fd(5)
        with suppress(OSError, AttributeError):
            thread = int(folder.rpartition("/")[2])
            process = os.pidfd_open(thread, 0 if thread == pid else PIDFD_THREAD)
            try:
                yield from _copies(process, range(procfs.status(pid, b"FDSize:")))
            finally:
                os.close(process)
    except OSError:  # it has ended
        return


def _copies(process: int, numbers: Iterable[int]) -> Iterator[tuple[int, os.stat_result, str]]:
    """Yield what is open under these numbers in the process that the descriptor is of. Raises OSError if forbidden."""
    for number in numbers:
        try:
            fd = get_file(process, number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
        else:
            try:
                yield number, os.fstat(fd), f"/proc/self/fd/{fd}"
            finally:
                os.close(fd)


def _is_told(status: os.stat_result) -> bool:
    """Whether a file has no content but what the kernel tells when it is read: of /proc, /sys, control groups."""
    of_no_disk = os.major(status.st_dev) == 0 and stat.S_ISREG(status.st_mode) and not status.st_blocks
    return status.st_dev == proc_device() or (of_no_disk and status.st_nlink > 0)


def _info(path: str) -> bytes:
    with suppress(OSError):
        return procfs.read(path)
    return b""


def _found(paths: Iterable[str]) -> Iterator[os.stat_result]:
    for path in paths:
        with suppress(OSError):
            yield os.stat(path)


def own_shared_memory(pids: Iterable[int]) -> tuple[int | None, int]:
    """Return the device of the processes' own /dev/shm, None where it cannot be seen, and the bytes that are in it."""
    for pid in pids:
        with suppress(OSError):
            place = f"{procfs.folder(pid)}/root{SHARED_MEMORY}"
            room = os.statvfs(place)
            return os.stat(place).st_dev, (room.f_blocks - room.f_bfree) * room.f_frsize
    return None, 0


@cache
def memory_device() -> int | None:
    """Return the device of files that are memory (memfd_create(2), shared maps), None where there is none."""
    try:
        with os.fdopen(os.memfd_create("datarun"), "rb") as file:
            return os.fstat(file.fileno()).st_dev
    except (AttributeError, OSError):
        return None


@cache
def proc_device() -> int | None:
    return os.stat("/proc").st_dev if procfs.LINUX else None
