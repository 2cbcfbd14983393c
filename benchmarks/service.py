"""A datarun of our own: real web, real workers, the embedded queue, all that they keep in a scratch folder."""

import base64
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests

import post_api
import queue_server
from config import CORES, Config
from tests.servers import free_port, running, wait_until

from . import data
from .scratch import ROOT

USERNAME = PASSWORD = "benchmark"
START_TIMEOUT = 60  # seconds
SPLIT_TIMEOUT = 120  # seconds
FINAL = ("TESTED", "ERROR")


@dataclass
class Service:
    """A running service; `worker` is None where only the web runs."""

    config: Config
    web: psutil.Process
    worker: psutil.Process | None
    http: requests.Session

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config.PORT}/"

    @property
    def user(self) -> tuple[str, str, str]:
        """The first arguments of each function of post_api."""
        return self.url, USERNAME, PASSWORD

    def get(self, path: str) -> Any:
        return checked(self.http.get(f"{self.url}runapp/{path}"))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return checked(self.http.post(f"{self.url}runapp/{path}", json=body))

    def post_data(self, name: str, csv: Path) -> int:
        """Post a data set for classifiers; return its id."""
        return checked(post_api.post_data(*self.user, name, "target", "classifier", csv))["id"]

    def split(self, raw_data_id: int) -> None:
        """Split the data set, and wait for the end of that."""
        checked(post_api.post_split(*self.user, data.HELD_OUT_TEST, raw_data_id, data.RANDOM_STATE))
        wait_until(lambda: self._is_split(raw_data_id), SPLIT_TIMEOUT, "the data set is split")

    def _is_split(self, raw_data_id: int) -> bool:
        [row] = [row for row in self.get("rawdata/") if row["id"] == raw_data_id]
        if row["split_state"] == "ERROR":
            raise RuntimeError(row["log_messages"])
        return row["split_state"] == "DONE"

    def final(self, fold_id: int) -> dict[str, Any] | None:
        """Return the fold where it is TESTED, None where it is not yet; raise RuntimeError where it failed."""
        fold = self.get(f"submissionfold/{fold_id}/")
        if fold["state"] == "ERROR":
            raise RuntimeError(f"fold {fold_id}: {fold['log_messages']}")
        return fold if fold["state"] == "TESTED" else None

    def web_processes(self) -> list[psutil.Process]:
        return [self.web, *self.web.children(recursive=True)]

    def worker_processes(self) -> list[psutil.Process]:
        return [self.worker, *self.worker.children(recursive=True)] if self.worker else []

    def queue_processes(self) -> list[psutil.Process]:
        """Return the embedded queue server and its keeper, which are nobody's children."""
        folder = str(self.config.DATARUN_HOME / "queue")
        return [p for p in psutil.process_iter(["cmdline"]) if any(folder in word for word in p.info["cmdline"] or [])]


def fold_body(fold_id: int, submission_id: int, rows: tuple[np.ndarray, np.ndarray], **more: Any) -> dict[str, Any]:
    """Return the body of a POST of a fold; `rows` are train_is and test_is."""
    train_is, test_is = map(encoded, rows)
    identity = {"databoard_sf_id": fold_id, "databoard_s_id": submission_id}
    return {**identity, "train_is": train_is, "test_is": test_is, **more}


def encoded(rows: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(rows.astype("<i8").tobytes())).decode()


def checked(answer: requests.Response) -> Any:
    if not answer.ok:
        raise RuntimeError(f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:500]}")
    return answer.json()


@contextmanager
def service(home: Path, workers: int = CORES, queues: tuple[str, ...] = (), **settings: Any) -> Iterator[Service]:
    """Run a service in the folder `home`, which may have been another's; with 0 workers, only the web."""
    home.mkdir(exist_ok=True)
    config = Config(
        PORT=free_port(), WEB_HOST="127.0.0.1", DATARUN_HOME=home, DATARUN_USERNAME=USERNAME,
        DATARUN_PASSWORD=PASSWORD, WORKER_CONCURRENCY=workers or CORES, GRACE_PERIOD=1.0,
    )  # fmt: skip
    config = replace(config, **settings)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(home),
        **{f.name: str(getattr(config, f.name)) for f in fields(Config)},
    }
    options = {"cwd": ROOT, "env": environment}
    in_order = {**options, "start_new_session": True}  # Ctrl-C at the terminal is for us: we end them in our order
    with ExitStack() as stack:
        stack.callback(queue_server.stop, home)
        subprocess.run(["flask", "db", "upgrade"], check=True, stderr=subprocess.DEVNULL, **options)
        commands = {"web": ["gunicorn", "app:create_app()"]}
        if workers:
            commands["worker"] = [sys.executable, "worker.py", *queues]
        started = {
            name: stack.enter_context(running(command, home / f"{name}.log", **in_order))
            for name, command in commands.items()
        }
        http = stack.enter_context(requests.Session())
        http.auth = (USERNAME, PASSWORD)
        processes = {name: psutil.Process(process.pid) for name, process in started.items()}
        result = Service(config, processes["web"], processes.get("worker"), http)

        def is_ready() -> bool:
            for name, process in started.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended:\n{(home / name).with_suffix('.log').read_text()[-3000:]}")
            return listening(result) >= workers

        wait_until(is_ready, START_TIMEOUT, "the service answers")
        yield result


def listening(running_service: Service) -> int:
    """Return how many workers listen to the queue `high`; -1 while the web does not answer."""
    try:
        health = requests.get(f"{running_service.url}healthz", timeout=5).json()
    except requests.RequestException:
        return -1
    return (health["queues"] or {}).get("high", {}).get("workers", 0)
