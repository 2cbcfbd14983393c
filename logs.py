"""What the processes log: lines on stdout that begin with what they are about (`fold 12: ...`), for people or machines.

LOG_FORMAT=line   2026-11-24 10:15:02,513 fold 12: attempt 1
LOG_FORMAT=json   {"time": "2026-11-24T10:15:02.513Z", "level": "INFO", "logger": "worker", "process": 4711,
                  "message": "fold 12: attempt 1", "fold": 12}, and each request that gunicorn answered
"""

import json
import logging
import logging.config
import re
import time
from typing import Any

ABOUT = re.compile(r"(?:(fold)|raw data|split of data set) (\d+): ")
REQUEST = {"address": "h", "user": "u", "method": "m", "path": "U", "status": "s", "bytes": "B", "seconds": "L"}


class JSONFormatter(logging.Formatter):
    """One object a line; `request` of a record, and gunicorn's account of one, become fields of it."""

    converter = time.gmtime
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        fields: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": message,
        }
        if about := ABOUT.match(message):
            fields[about[1] or "raw_data"] = int(about[2])
        if record.name == "gunicorn.access" and isinstance(record.args, dict):
            fields |= {name: record.args[atom] for name, atom in REQUEST.items()}
        fields |= getattr(record, "request", {})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def settings(log_format: str) -> dict[str, Any]:
    """Return what `logging.config.dictConfig` takes."""
    formatter = {"()": JSONFormatter} if log_format == "json" else {"format": "%(asctime)s %(message)s"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"chosen": formatter},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "chosen"}},
        "root": {"level": "INFO", "handlers": ["stdout"]},
        "loggers": {
            "alembic": {"level": "WARNING"},  # its plugins, at each start
            "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
            "gunicorn.access": {
                "level": "INFO" if log_format == "json" else "WARNING",
                "handlers": [],
                "propagate": True,
            },
        },
    }


def set_up(log_format: str) -> None:
    """Log to stdout in this format, from now on."""
    logging.config.dictConfig(settings(log_format))
