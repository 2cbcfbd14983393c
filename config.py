"""Every setting: its environment variable, its default, its unit and its meaning.

This module alone reads the environment. `Config.from_environ()` gives the values; everything else takes them from
`app.config` or as arguments.
"""

import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


PORTS = {"least": 0, "most": 65_535}  # 0: any that is free
POSTGRESQL = ("postgres", "postgresql", "postgresql+psycopg")


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    shown: str = "",
    choices: tuple[str, ...] = (),
    schemes: tuple[str, ...] = (),
    fault: Callable[[str], str | None] = lambda _: None,
    least: float | None = None,
    most: float = 10**9,
) -> Any:
    """Declare a setting.

    Parameters
    ----------
    shown : what the README prints where the default depends on the machine.
    choices : the texts that it may be.
    schemes : of the URLs that it may be.
    fault : of a text, returns what is expected where it cannot be used.
    least, most : of a number; at least 1 where it is whole, and 0.01 where not, unless said otherwise.
    """
    if least is None:
        least = 1 if isinstance(default, int) else 0.01
    allowed = {"choices": choices, "schemes": schemes, "fault": fault, "least": least, "most": most}
    return field(
        default=default, metadata={"meaning": meaning, "unit": unit, "shown": shown or str(default), **allowed}
    )


def database_fault(url: str) -> str | None:
    """Return what is expected of a URL that SQLAlchemy or the database's driver cannot read."""
    return sqlite_fault(url) if url.startswith("sqlite") else postgresql_fault(url)


def sqlite_fault(url: str) -> str | None:
    import sqlite3  # large, as the others: not for who uses the default

    from sqlalchemy import exc, make_url

    try:
        used = make_url(url)
        sqlite3.connect(":memory:", **used.get_dialect()().create_connect_args(used)[1]).close()
    except (exc.ArgumentError, ValueError, TypeError, OverflowError):
        return "sqlite:////path, without a host or a user, and options as Python's sqlite3 takes them"
    return None


def postgresql_fault(url: str) -> str | None:
    from psycopg import ProgrammingError, conninfo
    from sqlalchemy import exc, make_url

    try:
        used = make_url(Config(DATABASE_URL=url).database_url)
        conninfo.make_conninfo(**used.get_dialect()().create_connect_args(used)[1])
    except (exc.ArgumentError, ValueError, ProgrammingError):
        return "scheme://user:password@host:port/name, a number as its port, and options that libpq knows"
    return None


def queue_fault(url: str) -> str | None:
    """Return what is expected of a URL that redis-py cannot read, or which has an option that it or RQ cannot use."""
    from redis import ConnectionPool, RedisError  # likewise

    try:
        connection = ConnectionPool.from_url(url).make_connection()  # it connects at its first command
    except (ValueError, TypeError, RedisError):
        return "a number as its port, and options that redis-py knows for its scheme"
    return "no decode_responses: RQ takes bytes" if connection.encoder.decode_responses else None


def environment() -> Mapping[str, str]:
    """Return the whole environment: of it, the runner takes the numeric libraries' own settings."""
    return os.environ


@dataclass(frozen=True)
class Config:
    """The settings of one process. Field names are the names of the environment variables."""

    # Where things are
    PORT: int = setting(8000, "port of the web server", **PORTS)
    WEB_HOST: str = setting("0.0.0.0", "address that the web server listens on; `make run` listens on 127.0.0.1 alone")
    WEB_CONCURRENCY: int = setting(1, "web processes, each with 4 threads")
    DATARUN_HOME: Path = setting(
        ROOT / "var", "folder of the embedded database and queue, caches and scratch", shown="`var` in the checkout"
    )
    DATABASE_URL: str = setting(
        "",
        "of PostgreSQL (`postgres://...`) or SQLite (`sqlite:////path`; a relative path begins at `instance` in the "
        "checkout)",
        shown="SQLite in `DATARUN_HOME`",
        schemes=(*POSTGRESQL, "sqlite"),
        fault=database_fault,
    )
    DATABASE_CONNECTIONS: int = setting(
        8,
        "most connections of a process to PostgreSQL, at least 2: each of web's 4 threads uses one, "
        "a worker one while it reads or writes, two while it stores a split",
        least=2,  # with one, the end of a split would wait for itself: it stores, and gives signs of life meanwhile
    )
    REDIS_URL: str = setting(
        "",
        "a Redis or Valkey server",
        shown="an embedded server in `DATARUN_HOME`",
        schemes=("redis", "rediss", "unix"),
        fault=queue_fault,
    )
    REDIS_CERTIFICATE: str = setting(
        "required",
        "of a `rediss://` server: `required` to be valid, or `any`, as Heroku's are self-signed",
        choices=("required", "any"),
    )
    DATARUN_USERNAME: str = setting("", "a user that exists from the start of web or release on", shown="none")
    DATARUN_PASSWORD: str = setting("", "the password of that user", shown="none")
    PROXY_HOPS: int = setting(
        0, "proxies before the web server whose X-Forwarded-For, -Proto and -Host are believed", least=0
    )
    DASHBOARD_PORT: int = setting(9181, "port of `python dashboard.py`, on 127.0.0.1", **PORTS)
    LOG_FORMAT: str = setting(
        "line", "`line`, or `json`: an object a line, with a line for each request", choices=("line", "json")
    )

    # What a request may hold
    MAX_BODY_SIZE: int = setting(64, "largest JSON or form body", unit="MB")
    MAX_UPLOAD_SIZE: int = setting(2048, "largest multipart body", unit="MB")
    MAX_FILE_SIZE: int = setting(2048, "largest file, unpacked", unit="MB")
    MAX_FILES: int = setting(100, "most files of one data set or submission, at most 120", most=120)

    # Workers
    WORKER_CONCURRENCY: int = setting(CORES, "workers of one `worker.py`", shown="as many as cores")
    RUNNER_PYTHON: str = setting("", "the interpreter that runs submissions", shown="the one that runs the worker")
    SLOT_UID: int = setting(
        64100,
        "as root, submissions run under users from this number on, which no account may have: what they own in shared "
        "folders is removed; services of one host need different ones",
        most=2**31 - 2**12,
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
    GRACE_PERIOD: float = setting(20.0, "what a stopping worker grants to the folds that it runs", unit="s", least=0.0)

    # Limits of one fold
    TIME_LIMIT: float = setting(600.0, "wall time of a fold or split", unit="s")
    CPU_LIMIT: float = setting(
        1200.0, "CPU time of all processes of a fold; of those that nobody waits for, the most that it can be", unit="s"
    )
    MEMORY_LIMIT: int = setting(4096, "memory of all processes of a fold, on top of libraries and data", unit="MB")
    PROCESS_LIMIT: int = setting(256, "processes and threads of a fold")
    LOG_LIMIT: int = setting(16, "what a fold may print", unit="MB")
    LOG_KEPT: int = setting(64, "what is kept of that, head and tail", unit="kB")
    DISK_LIMIT: int = setting(1024, "what a fold may write to files", unit="MB")
    PREDICTIONS_LIMIT: int = setting(
        512,
        "predictions of a fold, at most 512",
        unit="MB",
        most=512,  # PostgreSQL sends bytes as text, two characters each, and no more than 1 GiB of it
    )

    @classmethod
    def of_process(cls) -> "Config":
        """Read the settings of this process; end it with a sentence where one of them cannot be used."""
        try:
            return cls.from_environ()
        except ValueError as error:
            raise SystemExit(f"not started: {error}") from None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Config":
        """Read the settings; raise ValueError, a sentence with the variable's name, where a value cannot be used.

        An empty variable means the default, as in `.env` files.
        """
        values = {}
        for f in fields(cls):
            if text := environ.get(f.name, "").strip():
                try:
                    values[f.name] = f.type(text)
                except ValueError:
                    values[f.name] = math.nan
                if expected := fault(values[f.name], f.metadata):
                    raise ValueError(f"{f.name} is {repeated(f.name, text)}, expected {expected}")
        if "DATARUN_HOME" in values:
            with suppress(RuntimeError):  # ~ without a user, or one that does not exist
                values["DATARUN_HOME"] = values["DATARUN_HOME"].expanduser()
        config = cls(**values)
        if config.HEARTBEAT_INTERVAL >= config.DEAD_AFTER:
            raise ValueError(f"HEARTBEAT_INTERVAL is {config.HEARTBEAT_INTERVAL:g} s, expected less than DEAD_AFTER")
        return config

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL, with psycopg 3 as PostgreSQL's driver."""
        if not self.DATABASE_URL:
            path = str(self.DATARUN_HOME.resolve() / "datarun.sqlite")
            path = path.replace("%", "%25").replace("?", "%3F")  # all that SQLAlchemy reads as more than the path
            return f"sqlite:///{path}"
        scheme, _, rest = self.DATABASE_URL.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in POSTGRESQL else self.DATABASE_URL


def fault(value: Any, allowed: Mapping[str, Any]) -> str | None:
    """Return what is expected where the value is none of what is allowed: see `setting`."""
    if isinstance(value, int | float):
        least, most = allowed["least"], allowed["most"]
        kind = "a whole number" if isinstance(least, int) else "a number"
        return None if least <= value <= most else f"{kind} from {least} to {most}"
    if allowed["choices"] and value not in allowed["choices"]:
        return f"one of {', '.join(allowed['choices'])}"
    beginnings = tuple(f"{scheme}://" for scheme in allowed["schemes"])
    if beginnings and not value.startswith(beginnings):
        return f"a URL that begins with {', '.join(beginnings)}"
    return allowed["fault"](value)


def repeated(name: str, text: str) -> str:
    """The value as a message may repeat it: a URL or a password is a secret."""
    return "refused" if name.endswith(("_URL", "_PASSWORD")) else repr(text)
