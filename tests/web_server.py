"""The web server as it runs, on a test's own database, and connections to it that a client library would not make."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests
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

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> psutil.Process:
        [process] = self.main.children()
        return process

    def connect(self, request: str, buffer: int | None = None) -> socket.socket:
        """Connect, and send a request or the beginning of one; `buffer` is what the kernel takes ahead of us."""
        client = socket.socket()
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(SOON)
        client.connect(("127.0.0.1", self.port))
        client.sendall(request.encode())
        return client

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/healthz", timeout=SOON).ok
        except requests.ConnectionError:
            return False


@contextmanager
def web_server(config: Config, folder: Path, settings: str = "gunicorn.conf.py") -> Iterator[Web]:
    """Run a web server with gunicorn's `settings`; the block is entered when it answers."""
    port = free_port()
    environment = environment_of(folder, port, DATABASE_URL=config.database_url, REDIS_URL=config.REDIS_URL)
    environment |= {"DATARUN_HOME": str(config.DATARUN_HOME), "PYTHONPATH": str(ROOT)}
    log = folder / "web.log"
    command = ["gunicorn", "-c", settings, "app:create_app()"]
    with servers.running(command, log, cwd=ROOT, env=environment) as process:
        made = Web(port, log, psutil.Process(process.pid))
        wait_until(made.answers, SOON, "web answers")
        yield made
