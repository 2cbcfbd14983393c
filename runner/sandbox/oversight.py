"""Starts a program that may look into what descends from it, though that is closed to others of the same user.

A fold's memory and descriptors are closed (`protect`), to an ordinary user's supervisor too. Who has CAP_SYS_PTRACE in
the user namespace in which a program was executed may look into it all the same (ptrace(2), "access mode checking"):
so the zygote gets a namespace in which it has that capability, and what it forks inherits both. A fold gives it up
with all others. Where the system refuses, the program is started as it is.
"""

import os

from . import namespaces, process


def become(command: list[str]) -> None:
    """Become this program."""
    child = os.fork()  # tries: a failure half-way would ruin us
    if child == 0:
        try:
            os._exit(not begin())
        finally:  # whatever the kernel said
            os._exit(1)
    if os.waitpid(child, 0)[1] == 0:
        begin()
    os.execv(command[0], command)


def begin() -> bool:
    """Move into a user namespace with the one capability. Return False if refused.

    Raises OSError half-way: the process is of no use then.
    """
    if not namespaces.enter(0):
        return False
    process.keep_tracing()
    return True
