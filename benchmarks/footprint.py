"""What an idle service takes: memory with shared pages shared out (PSS), seconds to start, room on disk."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import psutil
import requests
from packaging.requirements import Requirement

import queue_server
from tests.servers import free_port, running, wait_until

from . import data, peers
from .figures import Figure, Skipped
from .latency import Client
from .memory import MB, pss
from .scratch import ROOT, scratch_folder
from .service import PASSWORD, USERNAME, service

WORKERS, MORE_WORKERS = 2, 4
START_TIMEOUT = 60  # seconds
IDLE = 2  # seconds


def measure(quick: bool) -> Iterator[Figure]:
    yield from memory()
    yield from start(1 if quick else 2)
    yield from size()


def memory() -> Iterator[Figure]:
    """Measure services that have done a few folds, and are idle."""
    whole: dict[int, float] = {}
    with scratch_folder() as folder:
        peers.write_inputs(folder, data.forest(20))
        for workers in (WORKERS, MORE_WORKERS):
            with service(folder / f"home-{workers}", workers=workers) as running_service:
                client = Client(running_service, folder)
                for _ in range(2 * workers):
                    client.time()
                time.sleep(IDLE)  # the last fold's processes end, and those for the next get ready
                parts = [running_service.web_processes(), running_service.worker_processes()]
                parts.append(running_service.queue_processes())
                whole[workers] = sum(map(pss, parts))
                if workers == WORKERS:
                    web, _, queue = map(pss, parts)
        with peers.celery(folder, WORKERS) as celery:
            [main] = celery.processes
            celery_memory = pss([main, *main.children(recursive=True)])
    yield Figure(
        f"idle service, {WORKERS} workers", "MB", [whole[WORKERS]], f"Celery alone, {WORKERS} processes",
        [celery_memory], ("at most", 400),
    )  # fmt: skip
    further = (whole[MORE_WORKERS] - whole[WORKERS]) / (MORE_WORKERS - WORKERS)
    yield Figure("each further worker", "MB", [further], goal=("at most", 45))
    yield Figure("of that, web", "MB", [web])
    yield Figure("of that, the embedded queue", "MB", [queue])


def start(repeats: int) -> Iterator[Figure]:
    """Measure `make run`, its set-up done, from the command to the first answer."""
    if not shutil.which("make"):
        yield Figure("make run to its first answer", "s", skipped="make is not installed")
        return
    subprocess.run(["make", "--silent", ".venv/local", f"PYTHON={sys.executable}"], cwd=ROOT, check=True)
    seconds, imports = [], []
    with scratch_folder() as folder:
        peers.write_inputs(folder, data.forest(20))
        for repeat in range(repeats):
            seconds.append(time_of_start(folder / f"home-{repeat}"))
            imports.append(peers.time_of_script(folder))
    yield Figure("make run to its first answer", "s", seconds, "a fresh python", imports, ("at most", 3.0))


def time_of_start(home: Path) -> float:
    home.mkdir()
    port = free_port()
    settings = {
        "PORT": str(port),
        "DATARUN_HOME": str(home),
        "DATARUN_USERNAME": USERNAME,
        "DATARUN_PASSWORD": PASSWORD,
    }
    begun = time.perf_counter()
    try:
        command = ["make", "--silent", "run", f"PYTHON={sys.executable}"]
        with running(
            command, home / "run.log", cwd=ROOT, env={**os.environ, **settings}, start_new_session=True
        ) as process:
            wait_until(lambda: answers(port, process), START_TIMEOUT, f"make run answers; log in {home}")
            return time.perf_counter() - begun
    finally:
        queue_server.stop(home)


def answers(port: int, process: psutil.Popen) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"make run ended with status {process.returncode}")
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).ok
    except requests.RequestException:
        return False


def size() -> Iterator[Figure]:
    """Measure the installed files of requirements-local.txt and all that it needs, beside those of ramp-workflow."""
    names = [line.split("#")[0].strip() for part in ("", "-local") for line in lines(f"requirements{part}.txt")]
    ours = installed_size([Requirement(name).name for name in names if name and not name.startswith("-r")])
    try:
        ramp = size_of(peers.install_ramp().parents[1])
    except Skipped as error:
        yield Figure("installed packages", "MB", [ours], skipped=str(error))
        return
    yield Figure("installed packages", "MB", [ours], "ramp-workflow's", [ramp])


def lines(name: str) -> list[str]:
    return (ROOT / name).read_text().splitlines()


def installed_size(names: list[str]) -> float:
    """Return the MB of the files of these distributions and of those that they need."""
    found: dict[str, Distribution] = {}
    while names:
        name = names.pop()
        try:
            if name not in found:
                found[name] = distribution(name)
                needed = map(Requirement, found[name].requires or [])
                names += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
        except PackageNotFoundError:  # of a platform's own, or optional
            continue
    paths = {file.locate() for one in found.values() for file in one.files or []}
    return sum(path.stat().st_size for path in map(Path, paths) if path.exists()) / MB


def size_of(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / MB
