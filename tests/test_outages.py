"""What clients and workers see while a part of the service is away. test_worker.py has workers without a database."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import rows
from flask import Flask
from workers import FAST, SOON, Running, fresh, iris_fold

import post_api
import servers
from models import LOCK_TIMEOUT, State, db
from servers import wait_until


def test_health_waits_for_no_lock_of_the_database(database_url: str, app: Flask) -> None:
    answers = []
    with app.app_context(), db.engine.execution_options(writes=True).connect() as connection:
        connection.execute(db.insert(db.metadata.tables["user"]).values(username="x", password_hash="x"))
        asking = threading.Thread(target=lambda: answers.append(app.test_client().get("/healthz").status_code))
        asking.start()
        asking.join(LOCK_TIMEOUT / 2000)
        assert answers == [200]


@pytest.mark.usefixtures("database_url")
def test_what_a_stopping_worker_gives_back_starts_before_it_is_gone(start: Callable[..., Running]) -> None:
    stopping = start(GRACE_PERIOD=0.5, TIME_LIMIT=SOON)  # the other may take long to start
    fold = iris_fold("sleeps_past_limit")
    stopping.logged(f"fold {fold.databoard_sf_id}: attempt 1")
    other = start()
    other.logged("isolation:")
    zygote = stopping.zygote()
    zygote.suspend()  # the main process waits for its end
    try:
        stopping.process.send_signal(signal.SIGTERM)
        other.logged(f"fold {fold.databoard_sf_id}: attempt 1")
        assert stopping.process.poll() is None
    finally:
        zygote.resume()
    assert (fresh(fold).state, fold.attempts) == (State.TODO, 1)


def test_a_machine_that_restarts_goes_on(tmp_path: Path) -> None:
    """All processes end at the same instant, the embedded queue server's too; then web and worker are started again."""
    soon = {name: str(value) for name, value in FAST.items()} | {"WORKER_CONCURRENCY": "2"}
    with servers.service(tmp_path, REDIS_URL="", **soon) as service:
        at = (service.base_url, *service.auth)
        (tmp_path / "iris.csv").write_bytes(rows.iris_csv())
        data_id = post_api.post_data(*at, "iris", "target", "classifier", str(tmp_path / "iris.csv")).json()["id"]
        post_api.post_split(*at, 0.2, data_id).raise_for_status()
        code = [str(rows.SUBMISSIONS / "sleeps" / "classifier.py")]
        folds = [1, 2, 3, 4]
        for fold_id in folds:
            posted = post_api.post_submission_fold(*at, 1, fold_id, range(90), [100], "L", data_id, code)
            assert posted.status_code == 201
        run = lambda: [fold for fold in post_api.get_submission_fold(*at).json() if fold["log_messages"]]  # noqa: E731
        wait_until(run, SOON, "a fold runs, others wait")
        processes = service.processes()
        for process in processes:
            process.suspend()
        for process in processes:
            process.kill()
        wait_until(lambda: not service.processes(), SOON, "nothing runs")
        with service.run():
            assert set(post_api.wait_for_folds(*at, folds, 2 * SOON).values()) == {"TESTED"}
            assert [fold["databoard_sf_id"] for fold in post_api.get_prediction_new(*at).json()] == folds
    assert [path for path in (tmp_path / "scratch").iterdir() if path.suffix != ".lock"] == []
