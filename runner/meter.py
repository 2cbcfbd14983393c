"""What a task uses, measured from outside, beside its limits."""

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from . import out_of_sight, tree
from .folders import MOST_FILES, folder_size, free_space
from .look import Look
from .task import Limits, Usage

LOOK_INTERVAL = 0.05  # seconds between two looks at memory, on average
HURRY = 0.005  # seconds until the next look where the disk fills, or the task stands still for it
FILLING = 1 / 4  # of a task's limit, in files, between two looks
FILES_INTERVAL = 0.25  # seconds between two looks at the files
MAPS_INTERVAL = 0.5  # seconds between two looks at what is mapped
FILES_SHARE = 1 / 3  # of the time that may go into each of these
FOLDER_SIZE = 4096  # bytes on the disk, at least
EXACT_SHARE = 0.25  # of the time that may go into exact looks at memory
SLOW = 0.5  # seconds that a look may take; meanwhile the task may use more
MOST_MISSES = 2  # looks in a row that do not find all; files that come and go make one

Exceeded = tuple[str, float]  # the kind of end, and the value of the limit: see task.End


class Meter:
    """Measures one task, from now on: its time, its processes' memory and CPU time, its files.

    Parameters
    ----------
    pid : its first process, a child of the process `stem`.
    processes : returns all of them.
    limits : what it may use, but for `disk`, the bytes of its files.
    mapped : bytes of its inputs.
    home : its folder, below `scratch`; it may put whatever it likes in its place.
    handed : descriptors of files without a path that it has from us, inputs and the others.
    result : the file of its predictions, or of a split's rows.
    labels, features : the files of a split for these; the first is memory.
    """

    def __init__(
        self,
        pid: int,
        stem: int,
        processes: Callable[[], Iterable[int]],
        limits: Limits,
        *,
        disk: int,
        mapped: int,
        home: Path,
        scratch: Path,
        handed: Iterable[int],
        result: BinaryIO,
        labels: Sequence[BinaryIO],
        features: Sequence[BinaryIO],
    ) -> None:
        self._pid = pid
        self._processes = processes
        self._limits = limits
        self._disk, self._mapped = disk, mapped
        self._home, self._scratch = home, scratch
        self._result, self._labels, self._features = result, labels, features
        self._known = {out_of_sight.identity(os.fstat(fd)) for fd in handed}
        self._since = time.monotonic()
        self._cpu_time = tree.CpuTime(stem, list(processes()))
        self._cpu_start = self._cpu_since = self._cpu_time.begin
        self._memory = self._hwm = tree.peak_memory(pid)
        self._allowance = math.inf  # bytes, known when the task has begun
        self._own_shared_memory = False  # whether /dev/shm is the task's own, likewise
        self._exact_look = Look(self._too_much_exactly, 0.0, EXACT_SHARE)
        self._files_look = Look(self._too_many_files, FILES_INTERVAL, FILES_SHARE)
        self._folder_look = Look(self._too_much_in_folder, math.inf, FILES_SHARE)  # that nothing else holds up
        self._maps_look = Look(out_of_sight.mapped, MAPS_INTERVAL, FILES_SHARE)
        self._seen_maps = out_of_sight.OutOfSight()  # what is mapped, when it was last looked at
        self._opened_memory = 0  # bytes of the kernel's for what is open, likewise
        self._memory_files = 0  # bytes of files that are memory, likewise
        self._device = home.stat().st_dev
        self._free = self._free_before = free_space(scratch)
        self._is_filling = False  # the disk, when it was last looked at
        self._misses = 0  # looks in a row at the files that did not find all
        self.held_since = math.inf  # since when the task stands still

    @property
    def has_begun(self) -> bool:
        return not math.isinf(self._allowance)

    def begin(self, own_shared_memory: bool) -> None:
        """Note what the task has in memory before it does anything: its limit is on top of that, and of its inputs."""
        self._own_shared_memory = own_shared_memory
        self._allowance = self._sample_memory([self._pid]) + self._mapped + self._limits.memory

    def close_phase(self) -> Usage:
        """Return what the present phase has taken until now, and let the next one begin."""
        pids = list(self._processes())
        now, cpu = time.monotonic(), self._cpu_time.read(pids)
        sample = self._sample_memory(pids)
        hwm = tree.peak_memory(self._pid)
        if hwm > self._hwm:  # this process's peak, between two samples, lies in this phase
            self._memory = max(self._memory, hwm)
        usage = Usage(now - self._since, cpu - self._cpu_since, min(self._memory, self._allowance))
        self._since, self._cpu_since, self._hwm, self._memory = now, cpu, hwm, sample
        return usage

    # Looks

    def look(self, pids: Sequence[int]) -> Exceeded | None:
        """Return the first limit that the task is found to be beyond; what takes long is found at a later look."""
        if self._too_much_memory(pids):
            return "memory_limit", self._limits.memory
        if self._too_much_cpu_time(pids):
            return "cpu_limit", self._limits.cpu_time
        self._seen_maps = self._maps_look(pids, self._known, self._limits.memory) or self._seen_maps
        self._look_at_disk()
        exceeded = self._files_look(pids, self._seen_maps, at_once=self.is_evaded)
        return exceeded or self._folder_look({}, at_once=self._is_filling)

    @property
    def pause(self) -> float:
        """The seconds from one look to the next, on average: what a filling disk leads to is soon there."""
        return HURRY if self._is_filling else LOOK_INTERVAL

    @property
    def is_evaded(self) -> bool:
        """Whether looks may not find all that the task uses: one takes long, or files move away from them each time."""
        looks = (self._exact_look, self._maps_look, self._files_look)
        return self._misses >= MOST_MISSES or any(look.takes > SLOW for look in looks)

    def too_much_cpu_time(self) -> bool:
        return self._too_much_cpu_time(list(self._processes()))

    def made_too_much(self) -> Exceeded | None:
        """Return the limit that what a split has made is beyond, since the last look maybe."""
        if size_on_disk(self._labels) > self._limits.memory:
            return "memory_limit", self._limits.memory
        return ("disk_limit", self._limits.disk) if size_on_disk(self._features) > self._disk else None

    def _sample_memory(self, pids: Collection[int]) -> int:
        self._resident = tree.memory(self._pid, pids)
        self._memory = max(self._memory, self._resident.least)
        return self._resident.least

    def _too_much_memory(self, pids: Sequence[int]) -> bool:
        self._sample_memory(pids)
        kernel = self._opened_memory + sum(self._seen_maps.kernel.values()) + tree.page_tables(pids)
        files = self._memory_files + size_on_disk(self._labels)
        least = most = 0  # of these, what is not resident: of what is, processes may have the same, or each its own
        if files:
            shared = tree.shared_memory(pids)
            least, most = (max(files - resident, 0) for resident in (sum(shared), max(shared, default=0)))
        if kernel + least > self._limits.memory:
            return True
        allowance = self._allowance - kernel
        least, most = least + self._resident.least, most + self._resident.most
        if least <= allowance and self._resident.shared_too > allowance:
            shared = sum(tree.shared_memory([pid for pid in pids if pid != self._pid]))
            least, most = least + shared, most + shared
        return most > allowance and bool(self._exact_look(pids, allowance, least, files))

    def _too_much_cpu_time(self, pids: Collection[int]) -> bool:
        return self._cpu_time.read(pids) - self._cpu_start > self._limits.cpu_time

    def _too_much_exactly(self, pids: Collection[int], allowance: float, least: float, files: int) -> bool:
        """Whether processes use more than is allowed; where it cannot be told exactly, whether they use so `least`.

        `files` are bytes of files that are memory.
        """
        exact = tree.proportional_memory(pids, allowance, files)
        return (least if exact is None else exact) > allowance

    def _too_many_files(self, pids: Iterable[int], mapped: out_of_sight.OutOfSight) -> Exceeded | None:
        """Return the limit that the task's files are beyond; note its memory out of sight.

        The folder is looked at last: what is removed meanwhile must not count twice.
        """
        began = time.monotonic()
        device, shared = out_of_sight.own_shared_memory(pids) if self._own_shared_memory else (None, 0)
        opened = out_of_sight.opened(pids, self._known, (device, self._device), mapped.longest)
        removed = {file: size for file, size in (opened.files | mapped.files).items() if file[0] != device}
        self._opened_memory = sum(opened.kernel.values())
        self._memory_files = sum((opened.memory | mapped.memory).values()) + shared
        return self._too_much_in_folder(removed, sum((opened.above | mapped.above).values()), began)

    def _too_much_in_folder(
        self, removed: Mapping[out_of_sight.Identity, int], n_folders: int = 0, began: float | None = None
    ) -> Exceeded | None:
        """Return the same for what is in the folder, files that were `removed`, of these sizes in bytes, and folders.

        Of the result, what is beyond its own limit counts; a split may write as much again to its features. Where looks
        are evaded, one at all files finds them all if it `began` while the task stood still.
        """
        folder = folder_size(self._home, self._disk)
        if folder.missed:
            self._misses += 1
        elif began is not None and (self._misses < MOST_MISSES or began > self.held_since):
            self._misses = 0
        beside = max(size_on_disk([self._result]) - self._limits.predictions, 0)
        size = folder.size + sum(removed.values()) + FOLDER_SIZE * n_folders + beside
        if max(size, size_on_disk(self._features)) > self._disk:
            return "disk_limit", self._limits.disk
        return ("file_limit", MOST_FILES) if folder.files + n_folders > MOST_FILES else None

    def _look_at_disk(self) -> None:
        """See whether it has lost so much room since it was last filling that the task may be near its limit.

        Where it has lost more than the limit, it may be the task that hides it, though others write, too.
        """
        free = free_space(self._scratch)
        if self._free_before - free > self._disk:
            self._free_before = free
            self._misses = MOST_MISSES
        self._is_filling = self._free - free > self._disk * FILLING
        if self._is_filling or free > self._free:
            self._free = free


def size_on_disk(files: Iterable[BinaryIO]) -> int:
    """Return the bytes of files' blocks, not their lengths: of those that nothing was written to, they have none."""
    return sum(os.fstat(file.fileno()).st_blocks * 512 for file in files)
