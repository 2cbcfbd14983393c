"""Settings of the web server: `gunicorn 'app:create_app()'` reads them; it takes WEB_CONCURRENCY by itself."""

import logs
import secrecy
from config import Config

_config = Config.from_environ()
secrecy.close_memory()  # of gunicorn's main process; those that it forks inherit it

bind = f"{_config.WEB_HOST}:{_config.PORT}"
worker_class = "gthread"  # a slow upload holds a thread, not the process
threads = 4
timeout = 60  # seconds
graceful_timeout = 25  # seconds: a platform grants 30 between SIGTERM and SIGKILL
control_socket_disable = True
forwarded_allow_ips = ""  # PROXY_HOPS alone says whether a proxy is believed
logconfig_dict = logs.settings(_config.LOG_FORMAT)
access_log_format = '%(h)s "%(m)s %(U)s" %(s)s %(B)s %(L)ss'
