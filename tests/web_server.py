"""The web server as it runs, on a test's own database, and connections to it that a client library would not make."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from requests.auth import _basic_auth_str
from workers import SOON

import servers
from config import Config
from servers import PASSWORD, ROOT, USERNAME, environment_of, free_port, wait_until

NEW = "/runapp/testpredictions/new/"
AUTHORIZATION = f"Authorization: {_basic_auth_str(USERNAME, PASSWORD)}\r\n"


@dataclass
class Web:
    """A web server of one process, which its main process starts again when it dies."""

    port: int
    log: Path
    main: psutil.Process
    path: Path | None = None  # of its socket, where it is a Unix socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> psutil.Process:
        [process] = self.main.children()
        return process

    def connect(self, request: str, buffer: int | None = None) -> socket.socket:
        """Connect, and send a request or the beginning of one; `buffer` is what the kernel takes ahead of us."""
        client = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(SOON)
        client.connect(str(self.path) if self.path else ("127.0.0.1", self.port))
        client.sendall(request.encode())
        return client

    def answers(self) -> bool:
        try:
            with self.connect("GET /healthz HTTP/1.0\r\n\r\n") as client, client.makefile("rb") as answer:
                return answer.readline().endswith(b" 200 OK\r\n") and bool(answer.read())
        except (ConnectionError, FileNotFoundError):
            return False


@contextmanager
def web_server(
    config: Config, folder: Path, settings: str = "gunicorn.conf.py", path: Path | None = None
) -> Iterator[Web]:
    """Run a web server with gunicorn's `settings`, on a Unix socket at `path`; the block is entered when it answers."""
    port = free_port()
    environment = environment_of(folder, port, DATABASE_URL=config.database_url, REDIS_URL=config.REDIS_URL)
    environment |= {"DATARUN_HOME": str(config.DATARUN_HOME), "PYTHONPATH": str(ROOT)}
    log = folder / "web.log"
    bind = ["--bind", f"unix:{path}"] if path else []
    command = ["gunicorn", "-c", settings, *bind, "app:create_app()"]
    with servers.running(command, log, cwd=ROOT, env=environment) as process:
        made = Web(port, log, psutil.Process(process.pid), path)
        wait_until(made.answers, SOON, "web answers")
        yield made
