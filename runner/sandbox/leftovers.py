"""What a fold can leave behind in folders that all may write to, and which of it is nobody else's."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

SHARED_FOLDERS = (Path("/dev/shm"), Path("/tmp"), Path("/var/tmp"))
SLACK = 0.1  # seconds by which a file's time may lie before the clock's
