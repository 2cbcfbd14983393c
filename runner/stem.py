"""The stem of a slot: the process that its supervisor and, one after another, its tasks' processes are forked from.

It never sees a task: so nothing of an earlier one, its files or what it printed, lies in the memory that a task's
process inherits. It adopts what these leave behind (tree.py), reaps what it is told to, and goes when its supervisor
does, or when the worker has gone and the supervisor stands still.

supervisor -> stem   {"protect": [thread id, ...]}, before all others, without an answer: whom no task may signal
                     {"fork": place, "memory": bytes}, two files: the child's ends of its log and of its marks
                     {"wait": [pid, ...], "block": whether to wait for their ends}
stem -> supervisor   {"pid": pid} or {"errno": number}
                     {"statuses": [exit status or null, ...]}
"""

import mmap
import os
import select
import socket
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from . import entry, procfs, sandbox, tree, wire
from .settings import Place, Settings

NICENESS = 5  # by which a task comes after its supervisor, or many busy processes would keep it from the limits
TIMEOUT = 20.0  # seconds; who takes longer to answer, or to go on with a message, stands still
ORPHANED = 10.0  # seconds without a message, after which a supervisor whose worker is gone stands still


class Stem:
    """The stem, as its supervisor sees it. Each method raises RuntimeError where the stem stands still."""

    def __init__(self, link: socket.socket, pid: int) -> None:
        self.pid = pid
        self._link = link
        self._link.settimeout(TIMEOUT)
        self.reaped_others = False  # than the first process, when `living` last looked

    def protect(self, processes: Iterable[int]) -> None:
        """Keep the signals of all tasks from these processes, and all threads that they have now."""
        threads = [thread for pid in processes for thread in sandbox.threads(pid)]
        wire.send(self._link, {"protect": threads})

    def fork(self, place: int, memory: int, log: int, marks: int) -> int:
        """Return the process id of a child that waits for its work. Raises OSError where none can be had."""
        answer = self._ask({"fork": place, "memory": memory}, [log, marks])
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return answer["pid"]

    def wait(self, pids: Sequence[int], block: bool) -> list[int | None]:
        """Have the stem do `tree.wait`."""
        return self._ask({"wait": list(pids), "block": block})["statuses"] if pids else []

    def processes(self, spare: Container[int]) -> Iterator[int]:
        return tree.descendants(self.pid, spare)

    def living(self, first: int, spare: Container[int]) -> Iterator[int]:
        """Return the processes of a task, when those have been reaped that it left to nobody and that have ended.

        Its `first` process stays one until its supervisor asks for its status.
        """
        left = [pid for pid in procfs.children(self.pid) if pid not in spare and pid != first]
        living = [pid for pid, status in zip(left, self.wait(left, block=False), strict=True) if status is None]
        self.reaped_others = len(living) < len(left)
        return tree.with_descendants([first, *living])

    def stop_all(self, spare: Container[int]) -> list[int]:
        return tree.stop_all(self.pid, spare, self.wait)

    def end_all(self, spare: Container[int]) -> None:
        tree.end_all(self.pid, spare, self.wait)

    def _ask(self, message: dict[str, Any], files: Sequence[int] = ()) -> dict[str, Any]:
        try:
            wire.send(self._link, message, files)
            return wire.receive(self._link)[0]
        except TimeoutError:
            raise RuntimeError("the stem stands still") from None


def serve(
    link: socket.socket,
    control: socket.socket,
    places: Sequence[Place],
    prepared: sandbox.Prepared,
    settings: Settings,
) -> None:
    """Be the stem, until the supervisor at the other end of `link` is gone or stands still.

    `control` is the supervisor's socket: it only tells when the worker at its other end is gone.
    """
    niceness = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
    with suppress(PermissionError):  # as root: it answers however busy a task is
        os.nice(-NICENESS)
    entry.prepare_stem(settings.environ)
    with suppress(AttributeError):  # where the system has no such thing
        settings.starts.obj.madvise(mmap.MADV_DONTFORK)  # no fold may write to it: madvise(2)
    link.settimeout(TIMEOUT)
    with suppress(EOFError, ConnectionError, TimeoutError):
        while _has_come(link, control):
            message, files = wire.receive(link)
            if "protect" in message:
                prepared = sandbox.protecting(prepared, message["protect"])
                continue
            if "wait" in message:
                wire.send(link, {"statuses": tree.wait(message["wait"], message["block"])})
                continue
            place = places[message["fork"]]
            policy = sandbox.Policy(
                scratch=place.home,
                uid=place.uid,
                parent=os.getpid(),
                shared_memory=message["memory"] // 4,
                limits=None,
                layers=settings.layers,
            )
            try:
                if (pid := os.fork()) == 0:
                    entry.wait_and_work(*files, policy, prepared, niceness, settings)
                answer = {"pid": pid}
            except OSError as error:
                answer = {"errno": error.errno}
            for fd in files:
                os.close(fd)
            wire.send(link, answer)


def _has_come(link: socket.socket, control: socket.socket) -> bool:
    """Wait for a message, or the end of `link`; return False where the worker is gone and neither comes."""
    poll = select.poll()
    poll.register(link, select.POLLIN)
    poll.register(control, 0)  # its end is told all the same: poll(2)
    is_orphaned = control.fileno() in dict(poll.poll())
    return not is_orphaned or bool(select.select([link], [], [], ORPHANED)[0])
