"""Memory of processes: proportional, where shared pages are shared out (PSS), and at its peak while something runs."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from .figures import Skipped

MB = 1_000_000
SAMPLE_INTERVAL = 0.005  # seconds


def pss(processes: Sequence[psutil.Process]) -> float:
    """Return the proportional set size of the processes together, in MB. Raises Skipped."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()  # proc_pid_smaps(5)
        except OSError as error:
            raise Skipped(f"/proc/PID/smaps_rollup cannot be read here: {error.strerror}") from None
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total / MB


def rss(processes: Sequence[psutil.Process]) -> float:
    """Return the resident memory of the processes together, in MB."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / MB


class Growth:
    """How much the memory of processes grew, in MB, at its highest."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self._processes = processes
        self.before = self.peak = rss(processes)
        self._stop = threading.Event()

    @property
    def mb(self) -> float:
        return self.peak - self.before

    def watch(self) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL):
            self.peak = max(self.peak, rss(self._processes))

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def growth(processes: Sequence[psutil.Process]) -> Iterator[Growth]:
    """Watch the processes' memory while the block runs."""
    watched = Growth(processes)
    thread = threading.Thread(target=watched.watch)
    thread.start()
    try:
        yield watched
    finally:
        watched.stop()
        thread.join()
