"""What a task prints, bounded: the head and the tail are kept, and how much is missing between."""

import codecs


class Log:
    """Collects bytes; `size` counts all of them, `text()` shows at most `kept` bytes of them."""

    def __init__(self, kept: int, replace: dict[str, str] | None = None) -> None:
        self.size = 0  # bytes
        self._half = kept // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._replace = replace or {}

    def append(self, data: bytes) -> None:
        self.size += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._half:  # trimmed now and then, so that many short lines cost little
            del self._tail[: -self._half]

    def text(self) -> str:
        """Return what is kept as text: UTF-8, without NUL (no database text holds one), paths shortened."""
        tail = self._tail[-self._half :]
        missing = self.size - len(self._head) - len(tail)
        gap = f"\n[... {missing} bytes left out ...]\n"
        text = _decode(self._head) + gap + _decode(tail) if missing else _decode(self._head + tail)
        return self.shortened(text)

    def shortened(self, text: str) -> str:
        """Return a text with its paths shortened."""
        for long, short in self._replace.items():
            text = text.replace(long, short)
        return text


def _decode(data: bytes) -> str:
    return codecs.decode(data, "utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
