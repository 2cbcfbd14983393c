"""Latency of one fold on an idle service: from the POST's answer until TESTED is seen through the API."""

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from . import data, peers
from .figures import Figure, Skipped
from .scratch import scratch_folder
from .service import Service, fold_body, service

N_TREES = 20
POLL_INTERVAL = 0.005  # seconds between two requests that ask for the fold
TIMEOUT = 60  # seconds
NO_LONGER = ("ratio at most", 1.1)  # but for noise


def measure(quick: bool) -> Iterator[Figure]:
    folds, scripts = (20, 3) if quick else (50, 7)
    seconds: dict[str, list[float]] = {name: [] for name in ("high", "low", "warm", "script", "ramp")}
    skipped = ""
    with scratch_folder() as folder, peers.warm_process(prepared(folder)) as warm, service(folder / "home") as running:
        client = Client(running, folder)
        client.time()
        for i in range(folds):
            seconds["high"].append(client.time("H"))
            seconds["low"].append(client.time("L"))
            seconds["warm"].append(warm.time())
            if i % (folds // scripts):
                continue
            seconds["script"].append(peers.time_of_script(folder))
            try:
                seconds["ramp"].append(peers.time_of_ramp(folder))
            except Skipped as error:
                skipped = str(error)
    ms = {name: [1000 * value for value in values] for name, values in seconds.items()}
    name = f"POST answered to TESTED seen, iris, {N_TREES} trees"
    yield Figure(name, "ms", ms["high"], "a warm process", ms["warm"], ("at most over", 40))
    yield Figure(name, "ms", ms["high"], "a fresh python", ms["script"], ("ratio at most", 1 / 20))
    yield Figure(name, "ms", ms["high"], "ramp-test", ms["ramp"], ("ratio at most", 1 / 15), skipped)
    yield Figure(f"{name}, low priority", "ms", ms["low"], "high priority", ms["high"], NO_LONGER)


def prepared(folder: Path) -> Path:
    peers.write_inputs(folder, data.forest(N_TREES))
    peers.write_ramp_kit(folder)
    return folder


class Client:
    """A site that posts folds of one submission, one after another."""

    def __init__(self, running: Service, folder: Path) -> None:
        self._service = running
        self._rows = data.iris_fold()
        self._ids = count(1)
        self._raw_data = running.post_data("iris", folder / "iris.csv")
        running.split(self._raw_data)

    def time(self, priority: str = "H") -> float:
        """Post a fold, wait until it is TESTED; return the seconds since the POST was answered."""
        fold_id = next(self._ids)
        body = fold_body(fold_id, 1, self._rows, priority=priority)
        if fold_id == 1:
            body |= {"raw_data": self._raw_data, "files": {"classifier.py": data.forest(N_TREES)}}
        self._service.post("submissionfold/", body)
        start = time.perf_counter()
        while not self._service.final(fold_id):
            if time.perf_counter() - start > TIMEOUT:
                raise TimeoutError(f"fold {fold_id} is not TESTED after {TIMEOUT} s")
            time.sleep(POLL_INTERVAL)
        return time.perf_counter() - start
