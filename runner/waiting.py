"""The process that waits for a slot's next task, as the supervisor sees it.

To get ready (entry.py) takes about as long as a small fold trains; so it is done while the task before runs.
"""

import itertools
import os
import select
import signal
import socket
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from . import sandbox, tree, wire
from .folders import make_folders, wipe
from .posted import PACKAGE
from .settings import Place
from .stem import NICENESS, Stem


class WaitingChild:
    """The process; `close` it when it has ended.

    Parameters
    ----------
    stem : what it is forked from.
    place : its folder and user.
    memory : the limit of the task that is expected, in bytes.

    Attributes
    ----------
    pid : its process id.
    log : descriptor of the pipe that it prints to; reading does not block.
    marks : the socket of its marks, which gets the work first.
    exited : descriptors of which the first becomes readable when the process ends; empty where there is no such thing.

    Raises OSError where there is no room for its folder, or no process to be had.
    """

    def __init__(self, stem: Stem, place: Place, memory: int) -> None:
        self.place = place
        self.memory = memory
        make_folders([place.home, place.home / "tmp", place.home / PACKAGE], place.uid)
        self.log, log_end = os.pipe()
        self.marks, marks_end = socket.socketpair()
        self.exited: list[int] = []
        try:
            if place.uid is not None:
                os.fchown(log_end, place.uid, place.uid)  # so that it may open /dev/stdout
            self.pid = stem.fork(place.number, memory, log_end, marks_end.fileno())
        except BaseException:
            self.close()
            raise
        finally:
            os.close(log_end)
            marks_end.close()
        os.set_blocking(self.log, False)
        self.exited = tree.open_process(self.pid)

    def close(self) -> None:
        self.marks.close()
        for fd in (self.log, *self.exited):
            os.close(fd)

    def lives(self) -> bool:
        """Whether it still waits for its work, as far as can be told."""
        return not (self.exited and select.select(self.exited, [], [], 0)[0])

    def start(
        self, kind: str, job: dict[str, Any], limits: sandbox.ProcessLimits, mapped: int, files: Sequence[int]
    ) -> None:
        """Give it its work.

        Parameters
        ----------
        limits : its memory is on top of the process's own and of what is mapped.
        mapped : bytes of the input files.
        files : the inputs of the job, the file for its result, those for what it makes.
        """
        work = {"kind": kind, "job": job, "limits": asdict(limits), "mapped": mapped}
        with suppress(OSError):  # it has ended; or it got ready at the priority that it is to have
            os.setpriority(os.PRIO_PROCESS, self.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        with suppress(OSError):  # it has ended; or the task before, of the same user, has stopped it
            os.kill(self.pid, signal.SIGCONT)
        with suppress(ConnectionError):  # it has ended, as its exit status says
            wire.send(self.marks, work, files)
        self.marks.setblocking(False)


class Starter:
    """Has a child ready for the next task, at one place while the task before may still run at another."""

    def __init__(self, stem: Stem, places: Sequence[Place]) -> None:
        self._stem = stem
        self._places = places
        self._turns = itertools.cycle(places)
        self._place = next(self._turns)  # of the next child
        self._ready: WaitingChild | None = None
        self._tried = False  # since the last task was taken

    def spare(self) -> Container[int]:
        """Return the processes below the stem that are not the task's: this one, and the child that is ready."""
        return {os.getpid(), *([self._ready.pid] if self._ready else [])}

    def get_ready(self, memory: int) -> None:
        """Once a task, have a child ready for the next one, of this memory limit in bytes."""
        if not self._tried:
            self._tried = True
            with suppress(OSError):  # told when the task comes
                self._fork(memory)

    def take(self, memory: int) -> WaitingChild:
        """Return the child that is ready, or another where it has ended or was expected to have another limit."""
        if not self._ready or self._ready.memory != memory or not self._ready.lives():
            self.clear()
            self._fork(memory)
        child, self._ready, self._tried = self._ready, None, False
        self._place = next(self._turns)
        return child

    def clear(self) -> None:
        """End all that is below the stem but this process, and leave each place empty."""
        if self._ready:
            self._ready.close()
            self._ready = None
        self._stem.end_all(self.spare())
        for place in self._places:
            wipe(place.home)

    def sweep(self) -> None:
        """Remove what lies beside the places: a task that nothing restricts may have moved its folder."""
        places = {place.home for place in self._places}
        with suppress(OSError):  # or the folder of them all
            for path in self._places[0].home.parent.iterdir():
                if path not in places:
                    wipe(path)

    def _fork(self, memory: int) -> None:
        try:
            self._ready = WaitingChild(self._stem, self._place, memory)
        except OSError:
            wipe(self._place.home)
            raise
