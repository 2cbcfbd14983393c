"""Hosts, each with its own processes, user, home folder and copy of the project; any of them can be cut off.

`namespaces()`: each has its own network and view of the file system, and all are joined by a bridge that nothing else
can reach. It takes root, and `ip` (iproute2). `users_and_folders()`: they share this machine's network, in which each
reaches the servers through relays of its own. Each has a user of its own only as root, and nothing else is taken.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import users

from servers import DIES_WITH_PARENT, NUMERIC_PREFIXES, ROOT, running

PLACE = Path("/srv")  # where each host with namespaces sees its own folder, and nothing of the others'
CLONE_NEWNET = 0x40000000  # setns(2)
PROJECT = ("*.py", "api", "runner", "migrations")  # what a host has of the checkout
PIECE = 65536  # bytes
# The interpreter may lie below a folder that is closed to the hosts' users
HOLD = """
import signal
from runner import sandbox
print(sandbox.open_ways(sandbox.readable_paths()), flush=True)
signal.pause()
"""
BECOME = """
import os, signal, sys
from pathlib import Path
from runner import sandbox
from runner.sandbox import process, system
user, folder, *command = sys.argv[1:]
if sandbox.LINUX and os.geteuid() == 0 and sandbox.open_ways(sandbox.readable_paths(), [Path(folder)]):
    process.change_user(int(user))
    system.prctl(system.PR_SET_PDEATHSIG, signal.SIGTERM)  # which that has undone
os.chdir(Path(folder, "checkout"))
os.execvp(command[0], command)
"""

Value = TypeVar("Value")


def why_not() -> str:
    """Return why hosts cannot be made of namespaces here; "" where they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "needs iproute2 and util-linux"
    tried = subprocess.run(["unshare", "--net", "--mount", "ip", "link", "add", "name", "bridge", "type", "bridge"])
    return "" if tried.returncode == 0 else "network namespaces are refused"


@dataclass
class Host:
    """A host of the second kind: its folder, the user of its processes, its address, and whether it is connected."""

    name: str
    folder: Path
    uid: int
    address: str = "127.0.0.1"
    up: threading.Event = field(default_factory=threading.Event)
    relays: list["Relay"] = field(default_factory=list)

    @property
    def seen(self) -> Path:
        """The host's folder, by the name that it has on the host."""
        return self.folder

    def command(self, *words: str | Path) -> list[str | Path]:
        """Return a command that runs on this host as its user, in its checkout."""
        return [sys.executable, "-c", BECOME, str(self.uid), self.seen, *words]

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        home = str(self.seen / "home")
        return {
            **{name: value for name, value in os.environ.items() if name.startswith(NUMERIC_PREFIXES)},
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": home,
            "DATARUN_HOME": home,
            "PYTHONUNBUFFERED": "1",
            **settings,
        }

    @contextmanager
    def run(self, name: str, *words: str | Path, **settings: str) -> Iterator[subprocess.Popen]:
        """Run a command on this host, its output to NAME.log in the host's folder."""
        with running(self.command(*words), self.log(name), cwd=ROOT, env=self.environment(settings)) as process:
            yield process

    @contextmanager
    def serve(self, name: str, command: list[str | Path], cwd: Path, user: Mapping[str, Any]) -> Iterator[None]:
        """Run a database or queue server in this host's network, as a user of its own."""
        with running(command, self.log(name), signal.SIGINT, cwd=cwd, **user):
            yield

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def enter_network(self) -> None:
        """Have the calling thread be in this host's network."""

    def way_to(self, url: str) -> str:
        """Return the URL by which this host reaches another one's server."""
        port = urlsplit(url).port
        relay = Relay(port, self.up)
        self.relays.append(relay)
        return url.replace(f":{port}/", f":{relay.port}/")

    def connect(self, up: bool) -> None:
        """Plug the host's network cable in, or pull it out."""
        if up:
            self.up.set()
        else:
            self.up.clear()


@dataclass
class ApartHost(Host):
    """A host of the first kind, with the processes that hold its namespaces and the bridge's."""

    holder: int = 0
    bridge: int = 0

    @property
    def seen(self) -> Path:
        return PLACE

    def command(self, *words: str | Path) -> list[str | Path]:
        place = ["--net", "--mount", f"--wdns={PLACE / 'checkout'}"]
        return ["nsenter", f"--target={self.holder}", *place, *as_user(self.uid, self.uid), *words]

    @contextmanager
    def serve(self, name: str, command: list[str | Path], cwd: Path, user: Mapping[str, Any]) -> Iterator[None]:
        become = as_user(user["user"], user["group"]) if user else []
        place = ["nsenter", f"--target={self.holder}", "--net"]
        with running([*place, *become, *command], self.log(name), signal.SIGINT, cwd=cwd):
            yield

    def enter_network(self) -> None:
        with Path(f"/proc/{self.holder}/ns/net").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def way_to(self, url: str) -> str:
        return url

    def connect(self, up: bool) -> None:
        ip(self.bridge, "link", "set", f"to-{self.name}", "up" if up else "down")


def as_user(uid: int, gid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--pdeathsig=keep", "--"]


class Visitor(ThreadPoolExecutor):
    """Runs functions of the test in a thread that is in a host's network: a network namespace is each thread's own."""

    def __init__(self, host: Host) -> None:
        super().__init__(1, initializer=host.enter_network)

    def call(self, function: Callable[..., Value], *arguments: Any, **named: Any) -> Value:
        return self.submit(function, *arguments, **named).result()


class Relay:
    """Passes on what comes to its port, to a server's port, and back, whenever `up` is set.

    While it is not, all that is sent waits, the end of a connection too: neither side is told.
    """

    def __init__(self, server_port: int, up: threading.Event) -> None:
        self._server_port, self._up = server_port, up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._run(self._accept)

    def _run(self, function: Callable[..., None], *arguments: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        return thread

    def _accept(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                self._run(self._pass_on, self._listener.accept()[0])

    def _pass_on(self, client: socket.socket) -> None:
        self._up.wait()
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._server_port)) as server:
            back = self._run(self._copy, server, client)
            self._copy(client, server)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE):
                self._up.wait()
                target.sendall(piece)
        self._up.wait()
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._up.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def users_and_folders(*names: str) -> Iterator[list[Host]]:
    """Make hosts of folders, and of users where these can be had."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datarun-hosts-")))
        folder.chmod(0o711)
        made = [Host(name, folder / name, users.user(80 + number)) for number, name in enumerate(names)]
        for host in made:
            stack.callback(lambda host=host: [relay.close() for relay in host.relays])
            host.connect(True)
            furnish(host)
            host.uid = user_of(host)
            for owned in (host.folder, host.folder / "home"):
                owned.chmod(0o700)
                os.chown(owned, host.uid, -1)
        yield made


def user_of(host: Host) -> int:
    """Return the user that the host's processes have: ours where we are not root, or no other reaches Python."""
    command = host.command(sys.executable, "-c", "import os; print(os.geteuid())")
    return int(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


@contextmanager
def namespaces(*names: str) -> Iterator[list[Host]]:
    """Make hosts of namespaces, joined by a network."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datarun-hosts-")))
        bridge = stack.enter_context(new_namespaces())
        ip(bridge, "link", "add", "name", "bridge", "type", "bridge")
        ip(bridge, "link", "set", "bridge", "up")
        made = []
        for number, name in enumerate(names, start=1):
            holder = stack.enter_context(new_namespaces())
            host = ApartHost(
                name, folder / name, users.user(80 + number), f"10.0.0.{number}", holder=holder, bridge=bridge
            )
            join(host)
            furnish(host)
            os.chown(host.folder / "home", host.uid, host.uid)
            for what in (["--bind", host.folder, PLACE], ["-t", "tmpfs", "none", folder]):
                subprocess.run(["nsenter", f"--target={holder}", "--mount", "mount", *what], check=True)
            made.append(host)
        yield made


@contextmanager
def new_namespaces() -> Iterator[int]:
    """Hold a new network and a new mount namespace; give the process id of the holder, with which they go."""
    command = ["unshare", "--net", "--mount", "--propagation=private", sys.executable, "-c", HOLD]
    with subprocess.Popen([*DIES_WITH_PARENT, *command], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        try:
            holder.stdout.readline()  # they are there
            yield holder.pid
        finally:
            holder.send_signal(signal.SIGKILL)


def ip(holder: int, *words: str) -> None:
    subprocess.run(["nsenter", f"--target={holder}", "--net", "ip", *words], check=True)


def join(host: ApartHost) -> None:
    ip(host.bridge, "link", "add", f"to-{host.name}", "type", "veth", "peer", "name", "eth0", "netns", str(host.holder))
    ip(host.bridge, "link", "set", f"to-{host.name}", "master", "bridge", "up")
    ip(host.holder, "address", "add", f"{host.address}/24", "dev", "eth0")
    for link in ("lo", "eth0"):
        ip(host.holder, "link", "set", link, "up")


def furnish(host: Host) -> None:
    """Give the host a folder with a copy of the project, and an empty home folder that is closed to others."""
    checkout, home = host.folder / "checkout", host.folder / "home"
    checkout.mkdir(parents=True)
    home.mkdir(mode=0o700)
    for pattern in PROJECT:
        for path in ROOT.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, checkout / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, checkout)
