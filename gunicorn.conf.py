"""Settings of the web server: `gunicorn 'app:create_app()'` reads them; it takes WEB_CONCURRENCY by itself."""

import gc
import sys
from contextlib import suppress
from typing import Any

from gunicorn.arbiter import Arbiter
from sqlalchemy.exc import OperationalError

import logs
import revision
import secrecy
from config import Config
from models import db
from patience import PatientWorker

_config = Config.from_environ()
secrecy.close_memory()  # of gunicorn's main process; those that it forks inherit it

bind = f"{_config.WEB_HOST}:{_config.PORT}"
worker_class = PatientWorker  # a slow client holds a thread, not the process, and not for ever
sendfile = False  # it would wait in the kernel, without a bound
threads = 4
preload_app = True  # it listens when it can answer; a process that dies is there again at once; pages are shared
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
    """End the server where the database has another schema than this code; one that is gone may come back."""
    with worker.wsgi.app_context(), suppress(OperationalError):
        if fault := revision.fault(db.engine):
            worker.log.error("not started: %s", fault)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
