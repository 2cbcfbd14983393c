"""Settings of the web server: `gunicorn 'app:create_app()'` reads them; it takes WEB_CONCURRENCY by itself."""

from config import Config

_config = Config.from_environ()

bind = f"{_config.WEB_HOST}:{_config.PORT}"
worker_class = "gthread"  # a slow upload holds a thread, not the process
threads = 4
timeout = 60  # seconds
graceful_timeout = 25  # seconds: a platform grants 30 between SIGTERM and SIGKILL
control_socket_disable = True
