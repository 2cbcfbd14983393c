"""Hosts made of network namespaces: each has its own address, processes, user and view of the file system.

All are joined by a bridge in a namespace of its own, which nothing else can reach. It takes root, and `ip` (iproute2).
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import users

from servers import NUMERIC_PREFIXES, ROOT, die_with_parent, running

PLACE = Path("/srv")  # where each host sees its own folder, and nothing of the others'
CLONE_NEWNET = 0x40000000  # setns(2)
PROJECT = ("*.py", "api", "runner", "migrations")  # what a host has of the checkout
# The interpreter may lie below a folder that is closed to the hosts' users
HOLD = """
import signal
from runner import sandbox
print(sandbox.open_ways(sandbox.readable_paths()), flush=True)
signal.pause()
"""

Value = TypeVar("Value")


def why_not() -> str:
    """Return why hosts cannot be made here; "" where they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "needs iproute2 and util-linux"
    tried = subprocess.run(["unshare", "--net", "--mount", "ip", "link", "add", "name", "bridge", "type", "bridge"])
    return "" if tried.returncode == 0 else "network namespaces are refused"


@dataclass
class Host:
    """A host: its address, its folder as the test sees it, the user of its processes, and its namespaces' holder."""

    name: str
    address: str
    folder: Path
    uid: int
    holder: int
    bridge: int

    def command(self, *words: str | Path) -> list[str]:
        """Return a command that runs on this host as its user, in its checkout."""
        user = [f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--pdeathsig=keep"]
        place = ["--net", "--mount", f"--wdns={PLACE / 'checkout'}"]
        return ["nsenter", f"--target={self.holder}", *place, "setpriv", *user, "--", *map(str, words)]

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        home = PLACE / "home"
        return {
            **{name: value for name, value in os.environ.items() if name.startswith(NUMERIC_PREFIXES)},
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(home),
            "DATARUN_HOME": str(home),
            "PYTHONUNBUFFERED": "1",
            **settings,
        }

    @contextmanager
    def run(self, name: str, *words: str | Path, **settings: str) -> Iterator[subprocess.Popen]:
        """Run a command on this host, its output to NAME.log in the host's folder."""
        with running(self.command(*words), self.log(name), env=self.environment(settings)) as process:
            yield process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def connect(self, up: bool) -> None:
        """Plug the host's network cable in, or pull it out."""
        ip(self.bridge, "link", "set", f"to-{self.name}", "up" if up else "down")


class Visitor(ThreadPoolExecutor):
    """Runs functions of the test in a thread that is in a host's network: a network namespace is each thread's own."""

    def __init__(self, host: Host) -> None:
        super().__init__(1, initializer=_enter_network, initargs=(host.holder,))

    def call(self, function: Callable[..., Value], *arguments: Any, **named: Any) -> Value:
        return self.submit(function, *arguments, **named).result()


def _enter_network(holder: int) -> None:
    with Path(f"/proc/{holder}/ns/net").open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def ip(holder: int, *words: str) -> None:
    subprocess.run(["nsenter", f"--target={holder}", "--net", "ip", *words], check=True)


@contextmanager
def namespaces() -> Iterator[int]:
    """Hold a new network and a new mount namespace; give the process id of the holder, with which they go."""
    command = ["unshare", "--net", "--mount", "--propagation=private", sys.executable, "-c", HOLD]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, preexec_fn=die_with_parent) as holder:
        try:
            holder.stdout.readline()  # they are there
            yield holder.pid
        finally:
            holder.send_signal(signal.SIGKILL)


@contextmanager
def hosts(folder: Path, *names: str) -> Iterator[list[Host]]:
    """Make hosts, each with a copy of the project and an empty home folder, joined by a network."""
    with ExitStack() as stack:
        bridge = stack.enter_context(namespaces())
        ip(bridge, "link", "add", "name", "bridge", "type", "bridge")
        ip(bridge, "link", "set", "bridge", "up")
        made = []
        for number, name in enumerate(names, start=1):
            holder = stack.enter_context(namespaces())
            host = Host(name, f"10.0.0.{number}", folder / name, users.user(80 + number), holder, bridge)
            _join(host)
            _furnish(host)
            made.append(host)
        yield made


def _join(host: Host) -> None:
    ip(host.bridge, "link", "add", f"to-{host.name}", "type", "veth", "peer", "name", "eth0", "netns", str(host.holder))
    ip(host.bridge, "link", "set", f"to-{host.name}", "master", "bridge", "up")
    ip(host.holder, "address", "add", f"{host.address}/24", "dev", "eth0")
    for link in ("lo", "eth0"):
        ip(host.holder, "link", "set", link, "up")


def _furnish(host: Host) -> None:
    """Give the host its folder, seen at PLACE on that host alone; those of the others are hidden from it."""
    checkout, home = host.folder / "checkout", host.folder / "home"
    checkout.mkdir(parents=True)
    home.mkdir(mode=0o700)
    for pattern in PROJECT:
        for path in ROOT.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, checkout / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, checkout)
    os.chown(home, host.uid, host.uid)
    for what in (["--bind", host.folder, PLACE], ["-t", "tmpfs", "none", host.folder.parent]):
        subprocess.run(["nsenter", f"--target={host.holder}", "--mount", "mount", *what], check=True)
