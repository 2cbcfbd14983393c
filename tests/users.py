"""The users, where tests run as root, under which submissions and other programs run: of this test process alone.

What a submission has left is looked for by its user, and a user's processes are counted: two test runs on one machine,
or two processes of one run, must not share any. A process claims a block of numbers by binding an abstract socket
(unix(7)), which is free again when it ends; what it starts finds the first number as SLOT_UID in its environment.
"""

import os
import socket
from contextlib import suppress

BLOCKS = range(50_000, 60_000, 100)  # none of a distribution's own: see systemd's UIDS-GIDS

_claimed = socket.socket(socket.AF_UNIX)


def claim() -> None:
    """Take a block for this process; the last one where there are no such sockets, nor users to run as (macOS)."""
    for first in BLOCKS:
        with suppress(OSError):  # it is another's
            _claimed.bind(f"\0datarun-test-users-{first}")
            break
    os.environ["SLOT_UID"] = str(first)


def user(number: int) -> int:
    """Return a user of the block: 0 to 39 are the slots' of services, those from 40 on belong to one file each."""
    return int(os.environ["SLOT_UID"]) + number
