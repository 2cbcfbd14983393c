"""The web server: gunicorn, with the settings of `gunicorn.conf.py`.

    python web.py       http://127.0.0.1:8000 (PORT); further arguments are options of gunicorn

gunicorn itself reads WEB_CONCURRENCY where it is imported, and a text that is no number, if only empty, ends it there.
"""

import os
import sys
from typing import NoReturn

from config import ROOT, Config


def become(application: str, *options: str) -> NoReturn:
    """Become gunicorn, with a WEB_CONCURRENCY that it can read; end with a sentence where a setting cannot be used."""
    os.environ.update(WEB_CONCURRENCY=str(Config.of_process().WEB_CONCURRENCY))
    os.chdir(ROOT)
    command = [sys.executable, "-m", "gunicorn", *options, application]
    os.execv(command[0], command)


if __name__ == "__main__":
    become("app:create_app()", *sys.argv[1:])
