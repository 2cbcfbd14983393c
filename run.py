"""honcho, which `make run` starts, for a terminal that may be lost: it ends web and workers then, too.

honcho knows no SIGHUP, fails where it can no longer print, and leaves what it has started running in both cases.
"""

import os
import signal
import sys
from typing import Any, TextIO

from honcho.command import main


class Lenient:
    """A stream that drops what cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # EIO: the terminal is gone
            sys.stdout = self._stream = open(os.devnull, "w")  # noqa: SIM115, PTH123
        return len(text)

    def flush(self) -> None:
        """Each write is flushed."""


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    sys.stdout = Lenient(sys.stdout)
    main()
