"""Settings of the web server, which `web.py` starts: gunicorn reads them.

Its main process runs nothing of the service, and has nothing of it in memory unless it shares that with several others.
"""

import gc
import sys
import time
from contextlib import suppress
from typing import Any

from gunicorn.arbiter import Arbiter

import logs
import secrecy
from config import Config

RELEASE_WAIT = 10.0  # seconds that web waits for the tables of an empty database
RELEASE_INTERVAL = 0.2  # seconds between two looks

_config = Config.of_process()
secrecy.close_memory()  # of gunicorn's main process; those that it forks inherit it

_host = _config.WEB_HOST.strip("[]")  # an address of IPv6 may come as URLs have it
bind = f"[{_host}]:{_config.PORT}" if ":" in _host else f"{_host}:{_config.PORT}"
worker_class = "patience.PatientWorker"  # a slow client holds a thread, not the process, and not for ever
sendfile = False  # it would wait in the kernel, without a bound
threads = 4
workers = _config.WEB_CONCURRENCY
preload_app = workers > 1  # pages are shared, and a process that dies is there again at once
timeout = 60  # seconds
graceful_timeout = 25  # seconds: a platform grants 30 between SIGTERM and SIGKILL
control_socket_disable = True
forwarded_allow_ips = ""  # PROXY_HOPS alone says whether a proxy is believed
logconfig_dict = logs.settings(_config.LOG_FORMAT)
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s %(L)ss'


def pre_fork(_server: Any, _worker: Any) -> None:
    """Keep pages shared: gc's writes would copy them."""
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """End the server where the database has another schema than this code; one that is gone may come back.

    `honcho start` begins release beside us: it may be at it.
    """
    import revision
    from models import DATABASE_GONE, db

    deadline = time.monotonic() + RELEASE_WAIT
    with worker.wsgi.app_context(), suppress(*DATABASE_GONE):
        while (fault := revision.fault(db.engine)) and fault.startswith(revision.EMPTY) and worker.alive:
            if time.monotonic() > deadline:
                break
            worker.notify()
            time.sleep(RELEASE_INTERVAL)
        if fault and worker.alive:
            worker.log.error("not started: %s", fault)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
