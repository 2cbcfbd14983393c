"""Every setting: its environment variable, its default, its unit and its meaning.

This module alone reads the environment. `Config.from_environ()` gives the values; everything else takes them from
`app.config` or as arguments.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def setting(
    default: Any, meaning: str, *, unit: str = "", shown: str = "", choices: tuple[str, ...] | None = None
) -> Any:
    """Declare a setting; `shown` is what the README prints where the default depends on the machine."""
    shown = shown or str(default)
    return field(default=default, metadata={"meaning": meaning, "unit": unit, "shown": shown, "choices": choices})


def environment() -> Mapping[str, str]:
    """Return the whole environment: of it, the runner takes the numeric libraries' own settings."""
    return os.environ


@dataclass(frozen=True)
class Config:
    """The settings of one process. Field names are the names of the environment variables."""

    # Where things are
    PORT: int = setting(8000, "port of the web server")
    WEB_HOST: str = setting("0.0.0.0", "address that the web server listens on; `make run` listens on 127.0.0.1 alone")
    DATARUN_HOME: Path = setting(
        ROOT / "var", "folder of the embedded database and queue, caches and scratch", shown="`var` in the checkout"
    )
    DATABASE_URL: str = setting(
        "", "any SQLAlchemy URL; `postgres://` is understood too", shown="SQLite in `DATARUN_HOME`"
    )
    DATABASE_CONNECTIONS: int = setting(
        8,
        "most connections of a web process to PostgreSQL: 2 for each of its 4 threads; "
        "a worker has one, while it reads or writes",
    )
    REDIS_URL: str = setting("", "a Redis or Valkey server", shown="an embedded server in `DATARUN_HOME`")
    REDIS_CERTIFICATE: str = setting(
        "required",
        "of a `rediss://` server: `required` to be valid, or `any`, as Heroku's are self-signed",
        choices=("required", "any"),
    )
    DATARUN_USERNAME: str = setting("", "a user that exists from the start of web or release on", shown="none")
    DATARUN_PASSWORD: str = setting("", "the password of that user", shown="none")
    PROXY_HOPS: int = setting(0, "proxies before the web server whose X-Forwarded-For, -Proto and -Host are believed")
    DASHBOARD_PORT: int = setting(9181, "port of `python dashboard.py`, on 127.0.0.1")
    LOG_FORMAT: str = setting(
        "line", "`line`, or `json`: an object a line, with a line for each request", choices=("line", "json")
    )

    # What a request may hold
    MAX_BODY_SIZE: int = setting(64, "largest JSON or form body", unit="MB")
    MAX_UPLOAD_SIZE: int = setting(2048, "largest multipart body", unit="MB")
    MAX_FILE_SIZE: int = setting(2048, "largest file, unpacked", unit="MB")
    MAX_FILES: int = setting(100, "most files of one data set or submission")

    # Workers
    WORKER_CONCURRENCY: int = setting(CORES, "workers of one `worker.py`", shown="as many as cores")
    RUNNER_PYTHON: str = setting("", "the interpreter that runs submissions", shown="the one that runs the worker")
    SLOT_UID: int = setting(
        64100, "as root, submissions run under users from this number on; services of one host need different ones"
    )
    MIN_ISOLATION: str = setting(
        "partial" if sys.platform == "linux" else "none",
        "a worker refuses to start below it: `strong`, `partial` or `none`",
        shown="`partial` on Linux, `none` elsewhere",
        choices=("strong", "partial", "none"),
    )
    CACHE_SIZE: int = setting(10_000, "what a host keeps of data sets and submissions", unit="MB")
    MAX_ATTEMPTS: int = setting(3, "executions of a fold or split before a failure of ours is final")
    HEARTBEAT_INTERVAL: float = setting(5.0, "between two signs of life of an execution", unit="s")
    DEAD_AFTER: float = setting(25.0, "without a sign of life, an execution is given up and run again", unit="s")
    RECONCILE_INTERVAL: float = setting(5.0, "between two searches for rows without a live job", unit="s")
    DELIVERY_LIMIT: float = setting(3600.0, "a worker keeps a result while the database is gone", unit="s")
    GRACE_PERIOD: float = setting(20.0, "what a stopping worker grants to the folds that it runs", unit="s")

    # Limits of one fold
    TIME_LIMIT: float = setting(600.0, "wall time of a fold or split", unit="s")
    CPU_LIMIT: float = setting(1200.0, "CPU time of all processes of a fold", unit="s")
    MEMORY_LIMIT: int = setting(4096, "memory of all processes of a fold, on top of libraries and data", unit="MB")
    PROCESS_LIMIT: int = setting(256, "processes and threads of a fold")
    LOG_LIMIT: int = setting(16, "what a fold may print", unit="MB")
    LOG_KEPT: int = setting(64, "what is kept of that, head and tail", unit="kB")
    DISK_LIMIT: int = setting(1024, "what a fold may write to files", unit="MB")
    PREDICTIONS_LIMIT: int = setting(512, "predictions of a fold", unit="MB")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Config":
        """Read the settings; raise ValueError with the variable's name where a value cannot be read.

        An empty variable means the default, as in `.env` files.
        """
        values = {}
        for f in fields(cls):
            if text := environ.get(f.name, "").strip():
                try:
                    values[f.name] = f.type(text)
                except ValueError:
                    raise ValueError(f"{f.name} is {text!r}, expected {f.type.__name__}") from None
                if f.metadata["choices"] and text not in f.metadata["choices"]:
                    raise ValueError(f"{f.name} is {text!r}, expected {', '.join(f.metadata['choices'])}")
        return cls(**values)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL, with psycopg 3 as PostgreSQL's driver."""
        if not self.DATABASE_URL:
            return f"sqlite:///{self.DATARUN_HOME.resolve() / 'datarun.sqlite'}"
        scheme, _, rest = self.DATABASE_URL.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else self.DATABASE_URL
