"""Folders and processes of a benchmark: all of them gone at its end, also on Ctrl-C."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give an empty folder that other users may pass through, as those of submissions must."""
    folder = Path(tempfile.mkdtemp(prefix="datarun-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
