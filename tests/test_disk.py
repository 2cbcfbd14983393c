"""A disk that is full costs no fold anything but time, and its own faults stay a submission's own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
import rows
import users
from flask import current_app
from small_disk import MB, SmallDisk, small_disk
from workers import FAST, SOON, Running, asleep, final, fresh, instance, iris_fold, split

import jobs
import post_api
import servers
from config import Config
from models import Cause, RawData, State, Submission, SubmissionFile, SubmissionFold, db
from servers import wait_until

FULL = "given back, the disk is full"


@pytest.fixture(scope="module")
def disk_of_a_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    with small_disk(tmp_path_factory.mktemp("small"), 100 * MB) as made:
        yield made


@pytest.fixture(scope="module")
def worker_of_a_file(
    disk_of_a_file: SmallDisk, tmp_path_factory: pytest.TempPathFactory, password_hash: str
) -> Iterator[Running]:
    """A worker with a small disk, which its database and its queue are not on."""
    logs = tmp_path_factory.mktemp("logs")
    with servers.valkey() as url:
        urls = {"DATABASE_URL": f"sqlite:///{logs}/db", "REDIS_URL": url}
        config = Config(DATARUN_HOME=disk_of_a_file.path, SLOT_UID=users.user(0), **urls, **FAST)
        with instance(config, password_hash, logs, disk_of_a_file.within) as running:
            yield running


@pytest.fixture
def home(disk_of_a_file: SmallDisk) -> Iterator[SmallDisk]:
    """The disk, which has room at first, and afterwards, and nothing in its cache."""
    shutil.rmtree(disk_of_a_file.seen / "cache", ignore_errors=True)
    yield disk_of_a_file
    disk_of_a_file.empty()


def wide_data() -> RawData:
    """Split data whose training part takes 16 MB."""
    numbers = np.random.default_rng(0).integers(0, 9, (25_000, 100))
    frame = pd.DataFrame(numbers).rename(columns=str).assign(target="a")
    frame.loc[::2, "target"] = "b"
    return split(rows.raw_data("wide", frame.to_csv(index=False).encode()))


def another(of: Submission) -> SubmissionFold:
    """Post another fold of that submission."""
    db.session.rollback()
    fold = rows.fold(of)
    jobs.enqueue(fold)
    return fold


def listens() -> bool:
    return current_app.test_client().get("/healthz").json["queues"]["low"]["workers"] > 0


def test_a_worker_listens_to_no_queue_while_its_disk_is_full(home: SmallDisk, shared: Running) -> None:
    submission = iris_fold("logistic_regression").submission
    n_before = shared.log().count("no job is taken")
    home.fill()
    wait_until(lambda: not listens(), SOON, "no worker listens")
    fold = another(submission)
    shared.logged("no job is taken: the disk of", times=n_before + 1)
    home.empty()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
    assert listens()
    assert shared.log().count("no job is taken") == n_before + 1


def test_data_that_do_not_fit_cost_no_attempt(home: SmallDisk, shared: Running) -> None:
    submission = rows.submission(wide_data())
    shutil.rmtree(home.seen / "cache")  # with what the split has put there
    home.fill(12 * MB)
    fold = another(submission)
    shared.logged(f"fold {fold.databoard_sf_id}: {FULL}")
    wait_until(lambda: fresh(fold).attempts == 0, SOON, "the attempt is given back")
    assert (fold.state, fold.log_messages) == (State.TODO, None)
    home.empty()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)


def test_data_that_can_never_fit_end_with_a_sentence(home: SmallDisk, shared: Running) -> None:
    data = rows.raw_data("huge", bytes(110 * MB))
    fold = rows.fold(rows.submission(data))
    assert split(data).split_state == State.ERROR
    size = shutil.disk_usage(home.seen).total / MB
    for attempt in (1, 2, 3):
        sentence = f"Attempt {attempt} ended without a result: it needs 110 MB on a disk of {size:.0f} MB."
        assert sentence in data.log_messages
    assert (final(fold).state, fold.cause) == (State.ERROR, Cause.INFRASTRUCTURE)


def test_features_that_can_never_fit_end_with_a_sentence(home: SmallDisk, shared: Running) -> None:
    data = split(rows.raw_data())
    data.X_test = rows.content(bytes(110 * MB))
    db.session.commit()
    fold = another(rows.submission(data))
    assert (final(fold).state, fold.cause, fold.attempts) == (State.ERROR, Cause.INFRASTRUCTURE, 3)
    assert "Attempt 3 ended without a result: it needs 110 MB on a disk of" in fold.log_messages


def test_files_that_do_not_fit_beside_the_cache_cost_no_attempt(home: SmallDisk, shared: Running) -> None:
    data = split(rows.raw_data())
    submission = rows.submission(data)
    submission.files.append(SubmissionFile(name="weights.bin", sha256=rows.content(bytes(7 * MB))))
    db.session.commit()
    home.fill(12 * MB)
    before = len(shared.log())
    fold = another(submission)
    shared.logged(f"fold {fold.databoard_sf_id}: {FULL}")
    home.empty()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)
    assert "is gone" not in shared.log()[before:]


def test_a_disk_filled_by_others_is_no_fault_of_the_fold_that_runs(home: SmallDisk, shared: Running) -> None:
    fold = asleep(iris_fold("writes_a_file_late"))
    home.fill()
    shared.logged(f"fold {fold.databoard_sf_id}: {FULL}")
    home.empty()
    assert (final(fold).state, fold.attempts) == (State.TESTED, 1)


def test_a_fold_that_fills_the_disk_itself_fails_at_once(home: SmallDisk, shared: Running) -> None:
    fold = iris_fold("fills_disk")  # DISK_LIMIT is more than there is
    assert (final(fold).state, fold.cause, fold.attempts) == (State.ERROR, Cause.TRAIN_ERROR, 1)
    assert fold.log_messages.endswith("OSError: [Errno 28] No space left on device")
    assert final(another(rows.submission(fold.submission.raw_data_row))).state == State.TESTED


def test_a_worker_that_starts_on_a_full_disk_waits_for_room(
    home: SmallDisk, start: Callable[..., Running], config: Config
) -> None:
    home.fill()
    running = start(within=home.within, DATARUN_HOME=home.path, DATABASE_URL=config.database_url)
    running.logged("no job is taken: the disk of")
    home.empty()
    running.logged("isolation:")


def test_all_of_a_service_on_a_full_disk_comes_back(tmp_path: Path) -> None:
    """The database, the queue and what web spools of uploads lie on it, too."""
    home, logs = tmp_path / "small", tmp_path / "logs"
    with (
        small_disk(home, 100 * MB) as disk,
        servers.service(logs, disk.within, DATARUN_HOME=str(home), TMPDIR=str(home), REDIS_URL="") as service,
    ):
        at = (service.base_url, *service.auth)
        (tmp_path / "iris.csv").write_bytes(rows.iris_csv())
        data_id = post_api.post_data(*at, "iris", "target", "classifier", str(tmp_path / "iris.csv")).json()["id"]
        post_api.post_split(*at, 0.2, data_id).raise_for_status()
        code = [str(rows.SUBMISSIONS / "logistic_regression" / "classifier.py")]
        first = (1, 1, range(90), [100], "L", data_id, code)
        assert post_api.post_submission_fold(*at, *first).status_code == 201
        assert post_api.wait_for_folds(*at, [1], SOON) == {1: "TESTED"}
        disk.fill()
        accepted = [1]
        for fold_id in range(2, 200):  # the database's log has room for some
            answer = post_api.post_submission_fold(*at, 1, fold_id, range(90), [100])
            if answer.status_code != 201:
                break
            accepted.append(fold_id)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        files = {"files": ("large.csv", bytes(2 * MB))}
        answer = requests.post(f"{service.base_url}/runapp/rawdata/", files=files, auth=service.auth, timeout=SOON)
        detail = {"detail": "There is no room for the upload for now; please try again."}
        assert (answer.status_code, answer.json()) == (503, detail)
        wait_until(lambda: "no job is taken" in (logs / "worker.log").read_text(), SOON, "the workers say so")
        assert len(post_api.get_submission_fold_light(*at).json()) == len(accepted)
        assert requests.get(f"{service.base_url}/healthz", timeout=SOON).status_code == 200
        disk.empty()
        wait_until(lambda: post_api.post_submission_fold(*at, 1, 500, range(90), [100]).ok, SOON, "accepted again")
        ended = post_api.wait_for_folds(*at, [*accepted, 500], 2 * SOON)
        assert set(ended.values()) == {"TESTED"}
