"""Features on disk: one file that any process of the runner's interpreter maps in a moment, whatever the type.

The file holds a pickle (protocol 5, PEP 574) and, aligned behind it, the memory of the arrays inside: frames, arrays,
sparse matrices and lists of them come back with their own dtypes and memory order, mapped copy-on-write, not copied.
Unpickling runs code: only a child that is already restricted opens such a file, the service never.

    magic | number of buffers, length of the pickle | offset and length of each buffer | pickle | buffers
"""

import io
import mmap
import pickle
import struct
from typing import Any, BinaryIO

MAGIC = b"datarun1"
ALIGNMENT = 64  # bytes, what numpy and SIMD code like best


class _Pickler(pickle.Pickler):
    """Notes the modules that the objects come from."""

    def __init__(self, file: BinaryIO, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self.modules: set[str] = set()

    def reducer_override(self, features: Any) -> Any:
        module = getattr(features, "__module__", None)
        if isinstance(module, str):
            self.modules.add(module)
        return NotImplemented


def write_features(features: Any, file: BinaryIO) -> set[str]:
    """Write `features` at the beginning of an empty, seekable `file`; return the modules that reading it imports."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = io.BytesIO()
    pickler = _Pickler(pickled, buffers)
    pickler.dump(features)
    body = pickled.getbuffer()
    end = len(MAGIC) + 16 + 16 * len(buffers) + len(body)
    spans = []
    for buffer in buffers:
        start = -(-end // ALIGNMENT) * ALIGNMENT
        end = start + buffer.raw().nbytes
        spans += [start, buffer.raw().nbytes]
    file.write(MAGIC + struct.pack(f"<{2 + len(spans)}Q", len(buffers), len(body), *spans))
    file.write(body)
    for start, buffer in zip(spans[::2], buffers, strict=True):
        file.write(bytes(start - file.tell()))
        file.write(buffer.raw())
    file.flush()
    return pickler.modules


def map_features(fd: int) -> Any:
    """Return the features in the file open as `fd`; writing to them changes this process's copy alone.

    Raises ValueError where the file is none of ours.
    """
    memory = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_COPY))
    if memory[: len(MAGIC)] != MAGIC:
        raise ValueError("not a features file")
    n_buffers, length = struct.unpack_from("<2Q", memory, len(MAGIC))
    spans = struct.unpack_from(f"<{2 * n_buffers}Q", memory, len(MAGIC) + 16)
    body = len(MAGIC) + 16 + 16 * n_buffers
    buffers = [memory[start : start + size] for start, size in zip(spans[::2], spans[1::2], strict=True)]
    return pickle.loads(memory[body : body + length], buffers=buffers)
