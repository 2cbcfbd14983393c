"""worker.py as it runs: real processes, killed and stopped at every point. On both databases."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import redis
import rows
from flask import Flask, current_app
from restricted import needs_root
from workers import SOON, Running, asleep, final, fresh, iris_fold, split

import files
import jobs
import recording
import schemas
import worker
from config import Config
from models import Cause, Content, State, SubmissionFold, db, writing
from runner import Zygote
from runner.sandbox import LAYERS
from servers import free_port, wait_until

# ---- what becomes of folds and splits


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux")
def test_root_that_may_not_change_its_user_runs_folds_all_the_same(start: Callable[..., Running]) -> None:
    running = start(within=["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-all"])
    fold = iris_fold("logistic_regression")
    assert final(fold).state == State.TESTED
    assert running.stop() == 0


def test_another_split_removes_what_the_first_made(shared: Running) -> None:
    data = split(rows.raw_data())
    before = {getattr(data, name) for name in ("split_is", "X_train", "X_test")}
    data.random_state, data.split_state = 1, State.TODO
    for name, value in rows.execution().items():
        setattr(data, name, value)
    db.session.commit()
    assert split(data).split_state == State.DONE
    assert not before & {data.split_is, data.X_train, data.X_test}
    assert db.session.query(Content).filter(Content.sha256.in_(before)).count() == 0


def test_data_that_cannot_be_split_ends_its_folds(shared: Running) -> None:
    data = rows.raw_data("broken", b"a,b\n1,2\n")
    fold = rows.fold(rows.submission(data))
    assert split(data).split_state == State.ERROR
    assert "target" in data.log_messages
    assert (final(fold).state, fold.cause) == (State.ERROR, Cause.DATA_ERROR)
    assert fold.log_messages == "The data set could not be split. See the log of the data set."


@pytest.mark.parametrize(
    ("train_is", "test_is", "log"),
    [
        ([0, 120], [1], "1 index is out of range in train_is; the first is 120, "),
        ([0], [200, 300], "2 indices are out of range in test_is; the first is 200, "),
    ],
)
def test_rows_that_the_data_lacks_are_a_data_error(
    shared: Running, train_is: list[int], test_is: list[int], log: str
) -> None:
    data = rows.raw_data()
    fold = rows.fold(rows.submission(data), 0, train_is, test_is)
    split(data)
    assert (final(fold).state, fold.cause, fold.attempts) == (State.ERROR, Cause.DATA_ERROR, 1)
    assert fold.log_messages == f"{log}and the training part has 120 rows, counted from 0."


EXITS_WHERE_READ = b"""
import os

def prepare_data(raw_data_path):
    pass

class Rows(list):
    __module__ = "numpy"

    def __reduce__(self):
        return os._exit, (1,)

def get_train_data(raw_data_path):
    return Rows(range(120)), [0, 1] * 60

get_test_data = get_train_data
"""


def test_features_that_end_the_process_that_reads_them_cost_no_attempt_of_ours(shared: Running) -> None:
    data = rows.raw_data("exits", EXITS_WHERE_READ, held_out_test=None, random_state=None)
    with writing():
        data.files[0].name = "specific.py"
    fold = rows.fold(rows.submission(data))
    assert split(data).split_state == State.DONE
    assert (final(fold).state, fold.cause, fold.attempts) == (State.ERROR, Cause.DATA_ERROR, 1)
    assert fold.log_messages == (
        "Ended with exit status 1 without a result, while loading the features that specific.py made. "
        "This is a fault of the data set's own file: the submission need not change."
    )


def test_no_label_lies_in_the_folder(shared: Running) -> None:
    final(iris_fold("logistic_regression"))
    for folder, _, names in os.walk(shared.config.DATARUN_HOME):
        for path in (Path(folder, name) for name in names if "sqlite" not in name):
            with suppress(FileNotFoundError):  # the fold's own, which are being removed
                assert not path.is_file() or b"versicolor" not in path.read_bytes()


def test_states_and_log_appear_while_the_fold_runs(shared: Running) -> None:
    fold = asleep(iris_fold())
    assert fold.state == State.TODO
    assert final(fold).state == State.TESTED
    assert fold.train_time > 2


def test_high_runs_before_low(shared: Running) -> None:
    data = rows.raw_data()
    submission = rows.submission(data)
    folds = [rows.fold(submission, priority="LH"[n % 2]) for n in range(6)]
    split(data)
    started = [final(fold).started_at for fold in sorted(folds, key=lambda fold: (fold.priority, fold.databoard_sf_id))]
    assert started == sorted(started)


def test_split_and_its_waiting_folds(shared: Running) -> None:
    data = rows.raw_data()
    good = rows.fold(rows.submission(data))
    bad = rows.fold(rows.submission(data, "fails_when_fitting"))
    split(data)
    assert (data.split_state, data.n_train, data.n_test) == (State.DONE, 120, 30)
    assert data.classes == ["setosa", "versicolor", "virginica"]
    split_is = np.frombuffer(b"".join(files.read(data.split_is)), dtype="<i8")
    assert sorted(split_is) == list(range(150))
    assert (final(good).state, good.cause, good.attempts) == (State.TESTED, None, 1)
    assert good.train_time > 0 and good.train_memory > 0 and good.queued_at <= good.started_at <= good.ended_at
    for name, n_rows in (("full_train_predictions", 120), ("test_predictions", 30)):
        predictions = schemas.unpack_predictions(getattr(good.predictions, name)).reshape(-1, 3)
        assert predictions.shape == (n_rows, 3)
        np.testing.assert_allclose(predictions.sum(axis=1), 1)
    assert (final(bad).state, bad.cause, bad.attempts) == (State.ERROR, Cause.TRAIN_ERROR, 1)
    assert bad.log_messages.endswith("ValueError: 90 rows are not enough")
    assert bad.predictions is None


def test_a_fold_posted_while_its_data_set_is_split_runs_once(shared: Running) -> None:
    """Who posts it and the split's end both enqueue it; a second worker must not take the place of the first."""
    data = rows.raw_data()
    fold = rows.fold(rows.submission(data, "sleeps"))
    posted = fold.task_id
    split(data)
    assert asleep(fold).task_id != posted
    assert recording.claim(SubmissionFold, fold.databoard_sf_id, posted, max_attempts=3) is None
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)


def test_worker_of_one_queue_leaves_the_other(start: Callable[..., Running], queue: redis.Redis) -> None:
    start("high")
    data = split(rows.raw_data())
    submission = rows.submission(data)
    low, high = rows.fold(submission), rows.fold(submission, priority="H")
    jobs.enqueue(low)
    jobs.enqueue(high)
    assert final(high).state == State.TESTED
    assert fresh(low).state == State.TODO
    assert low.task_id.encode() in queue.lrange("rq:queue:low", 0, -1)


def test_unknown_queue_is_refused(start: Callable[..., Running]) -> None:
    running = start("urgent")
    assert running.process.wait(SOON) == 2
    assert running.log() == "no such queue: urgent; there are: high, low\n"


# ---- the row changes under a running fold


def test_worker_that_cannot_isolate_well_enough_is_refused(
    app: Flask, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_landlock = [layer for layer in LAYERS if "landlock" not in layer and layer != "uid"]
    monkeypatch.setattr(worker, "Zygote", partial(Zygote, layers=without_landlock))
    with pytest.raises(RuntimeError, match=r"^isolation is none, MIN_ISOLATION is partial\. Missing: .*Landlock"):
        worker.start_zygote(app, config)


def test_replaced_fold_is_stopped_and_writes_nothing(shared: Running) -> None:
    fold = asleep(iris_fold("sleeps"))
    fold.task_id, fold.token, fold.log_messages = "another", None, "new"
    db.session.commit()
    shared.logged(f"fold {fold.databoard_sf_id}: replaced or gone, dropped")
    assert (fresh(fold).state, fold.log_messages) == (State.TODO, "new")


def test_stop_command_reaches_a_deleted_fold_at_once(shared: Running) -> None:
    fold = asleep(iris_fold("sleeps"))
    task_id = fold.task_id
    fold_id = fold.databoard_sf_id
    with writing():
        db.session.delete(fold)
    jobs.stop_tasks([task_id])
    shared.logged(f"fold {fold_id}: replaced or gone, dropped")


def test_stop_command_alone_cancels_the_fold(shared: Running) -> None:
    fold = asleep(iris_fold("sleeps"))
    jobs.stop_tasks([fold.task_id])
    assert (final(fold).state, fold.cause) == (State.ERROR, Cause.CANCELLED)


def test_job_run_again_takes_over(start: Callable[..., Running]) -> None:
    running = start(WORKER_CONCURRENCY=2)
    fold = asleep(iris_fold("sleeps"))
    jobs.enqueue(fold)
    assert (final(fold).state, fold.attempts) == (State.TESTED, 2)
    running.logged(f"fold {fold.databoard_sf_id}: replaced or gone, dropped")


def test_job_of_a_final_fold_does_nothing(shared: Running) -> None:
    fold = final(iris_fold("logistic_regression"))
    ended_at = fold.ended_at
    dropped = f"job {fold.task_id}: its row is final, gone, or has another job"
    before = shared.log().count(dropped)
    forgotten = lambda: not jobs.app_connection().exists(f"rq:job:{fold.task_id}")  # noqa: E731
    wait_until(forgotten, SOON, "RQ is done with the job: it would forget another one of the same id")
    jobs.enqueue(fold)
    shared.logged(dropped, times=before + 1)
    assert fresh(fold).ended_at == ended_at


# ---- what dies


def test_killed_zygote_is_replaced(shared: Running) -> None:
    fold = asleep(iris_fold("sleeps"))
    shared.remember()
    before, n_started = shared.zygote(), shared.log().count("isolation:")
    before.kill()
    assert final(fold).state == State.TESTED
    shared.logged("isolation:", times=n_started + 1)
    assert shared.zygote() != before
    later = rows.fold(fold.submission)
    jobs.enqueue(later)
    assert (final(later).state, later.attempts) == (State.TESTED, 1)


def test_a_zygote_that_ends_before_it_gives_a_slot_ends_nothing_else(
    config: Config, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    zygote = Zygote(sys.executable, config.DATARUN_HOME)
    zygote._control, theirs = socket.socketpair()
    theirs.close()
    worker.fork_worker("worker 1", ["low"], app, config, zygote, processes=None)
    assert "worker 1: no slot: [Errno 32] Broken pipe" in caplog.messages
    zygote.close()


# the last where it stood still beyond the fold's time
ENDS_OF_A_STOPPED_ONE = "replaced or gone", "TESTED, but no longer ours", "the runner is gone"


def test_fold_of_a_stopped_worker_runs_elsewhere(shared: Running, tmp_path: Path) -> None:
    fold = asleep(iris_fold("sleeps"))
    stopped = shared.workers()
    for process in stopped:
        process.suspend()
    other = Running(shared.config, tmp_path / "other.log")
    try:
        assert (final(fold).state, fold.attempts) == (State.TESTED, 2)
    finally:
        for process in stopped:
            process.resume()
        other.end()
    ended_at = fold.ended_at
    dropped = [f"fold {fold.databoard_sf_id}: {how}" for how in ENDS_OF_A_STOPPED_ONE]
    wait_until(lambda: any(words in shared.log() for words in dropped), SOON, "the stopped one drops it")
    assert (fresh(fold).ended_at, fold.attempts) == (ended_at, 2)


def test_a_data_set_may_grant_more_time_than_the_settings(start: Callable[..., Running]) -> None:
    """Neither the worker, which gives up a runner that is silent for long, nor RQ cuts it short."""
    running = start(TIME_LIMIT=0.1)
    data = split(rows.raw_data(time_limit=60.0))
    fold = rows.fold(rows.submission(data, "sleeps"))
    jobs.enqueue(fold)
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
    assert fold.train_time > running.config.TIME_LIMIT + running.config.DEAD_AFTER


def test_last_attempt_lost_is_an_error_of_ours(start: Callable[..., Running]) -> None:
    running = start(MAX_ATTEMPTS=1)
    fold = asleep(iris_fold("sleeps"))
    for slot in running.zygote().children():
        slot.kill()
    assert (final(fold).state, fold.cause) == (State.ERROR, Cause.INFRASTRUCTURE)
    assert fold.log_messages.endswith("This is a fault of the service: the submission need not change.")


def test_empty_queue_server_harms_nothing(shared: Running) -> None:
    fold = asleep(iris_fold("sleeps"))
    waiting = rows.fold(fold.submission)
    jobs.enqueue(waiting)
    jobs.app_connection().flushall()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
    assert (final(waiting).state, waiting.attempts) == (State.TESTED, 1)
    workers = lambda: current_app.test_client().get("/healthz").json["queues"]["low"]["workers"]  # noqa: E731
    wait_until(lambda: workers() == 1, SOON, "the worker registers again")


def test_embedded_queue_server_killed_under_load(shared: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = jobs.connection(shared.config, patient=True)
    monkeypatch.setitem(current_app.extensions, "datarun_queue", patient)
    fold = asleep(iris_fold("sleeps"))
    psutil.Process(patient.info("server")["process_id"]).kill()
    later = [rows.fold(fold.submission) for _ in range(2)]
    for row in later:
        jobs.enqueue(row)
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
    for row in later:
        assert (final(row).state, row.attempts) == (State.TESTED, 1)
    patient.connection_pool.disconnect()


# ---- stopping


def test_stopping_worker_finishes_what_ends_in_time(start: Callable[..., Running]) -> None:
    running = start(GRACE_PERIOD=15)
    fold = asleep(iris_fold("sleeps"))
    assert running.stop() == 0
    assert (fresh(fold).state, fold.attempts) == (State.TESTED, 1)
    assert running.left() == []


def test_stopping_worker_gives_the_rest_back(start: Callable[..., Running], queue: redis.Redis) -> None:
    running = start(GRACE_PERIOD=0.5)
    fold = asleep(iris_fold("sleeps"))
    before = fold.task_id
    assert running.stop() == 0
    assert fresh(fold).task_id != before
    assert (fold.state, fold.token, fold.attempts, fold.log_messages) == (State.TODO, None, 0, None)
    assert queue.lindex("rq:queue:low", 0) == fold.task_id.encode()  # first in line
    assert running.left() == []


@needs_root
def test_users_of_accounts_are_refused_to_folds(start: Callable[..., Running]) -> None:
    running = start(SLOT_UID=1)
    assert running.process.wait(SOON) == 1
    assert "not started: SLOT_UID is 1, and user 1 is daemon; expected numbers of no account" in running.log()


def test_idle_worker_stops(start: Callable[..., Running], app: Flask) -> None:
    running = start()
    workers = lambda: app.test_client().get("/healthz").json["queues"]["low"]["workers"]  # noqa: E731
    wait_until(lambda: workers() == 1, SOON, "a worker listens")
    assert running.stop(signal.SIGINT) == 0
    assert workers() == 0
    assert running.left() == []


def test_worker_stops_while_the_database_has_no_tables(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start(DATABASE_URL=f"sqlite:///{tmp_path / 'empty.sqlite'}")
    running.logged("waiting for the database's tables")
    assert running.stop() == 0
    assert "isolation:" not in running.log()


def test_worker_stops_while_there_is_no_queue_server(start: Callable[..., Running]) -> None:
    running = start(REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    running.logged("reconciler: Error 111 connecting")
    assert running.stop() == 0
    assert "Traceback" not in running.log()


def test_worker_that_cannot_use_its_cache_says_so(start: Callable[..., Running], config: Config) -> None:
    (config.DATARUN_HOME / "cache").touch()
    running = start()
    assert running.process.wait(SOON) == 1
    assert running.log().endswith(f"not started: {config.DATARUN_HOME / 'cache'} cannot be used: File exists\n")


def test_second_interrupt_ends_everything_at_once(start: Callable[..., Running]) -> None:
    running = start(GRACE_PERIOD=600)
    asleep(iris_fold("sleeps"))
    running.remember()
    running.process.send_signal(signal.SIGINT)
    running.logged("stopping")
    assert running.stop(signal.SIGINT) == 0
    wait_until(lambda: not running.left(), SOON, f"all gone: {running.left()}")


def test_nothing_outlives_a_killed_main_process(start: Callable[..., Running]) -> None:
    running = start()
    fold = iris_fold("sleeps_past_limit")
    wait_until(lambda: fresh(fold).heartbeat_at and fold.heartbeat_at > fold.started_at, SOON, "it runs")
    running.remember()
    running.process.kill()
    running.process.wait()
    wait_until(lambda: not running.left(), SOON, "all gone")
    assert (fresh(fold).state, fold.token) == (State.TODO, None)
