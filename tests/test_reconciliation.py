"""What is not final and has no live job is found and enqueued again; what is alive is left alone. On both databases."""

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis
import rows
from flask import Flask
from sqlalchemy import select, text

import files
import jobs
import recording
from config import Config
from models import Cause, Content, RawData, State, SubmissionFold, db
from reconciliation import SWEEP_INTERVAL, Reconciler
from recording import claim


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def context(database_url: str, app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reconciler(config: Config, queue: redis.Redis, clock: Clock) -> Reconciler:
    return Reconciler(config, queue, clock)


@pytest.fixture
def fold() -> SubmissionFold:
    """A fold that waits, and is in no queue."""
    return rows.fold(rows.submission(rows.split_raw_data()), 11)


def look_for(reconciler: Reconciler, clock: Clock, seconds: float, config: Config) -> int:
    """Let the reconciler look every RECONCILE_INTERVAL for that time; return how many rows it repaired."""
    repaired = reconciler.run()
    for _ in range(int(seconds / config.RECONCILE_INTERVAL)):
        clock.now += config.RECONCILE_INTERVAL
        repaired += reconciler.run()
    return repaired


def fresh(row: SubmissionFold | RawData) -> SubmissionFold | RawData:
    db.session.rollback()
    db.session.refresh(row)
    db.session.rollback()
    return row


def queued(queue: redis.Redis, name: str) -> list[str]:
    return [task_id.decode() for task_id in queue.lrange(f"rq:queue:{name}", 0, -1)]


def test_fold_that_was_never_enqueued_is(
    fold: SubmissionFold, reconciler: Reconciler, clock: Clock, config: Config, queue: redis.Redis
) -> None:
    before = fold.task_id
    assert reconciler.run() == 0  # it may have been committed a moment ago
    clock.now += config.RECONCILE_INTERVAL
    assert reconciler.run() == 1
    assert fresh(fold).task_id != before
    assert queued(queue, "low") == [fold.task_id]
    assert fold.attempts == 0


def test_fold_in_a_queue_is_left_alone(
    fold: SubmissionFold, reconciler: Reconciler, clock: Clock, config: Config, queue: redis.Redis
) -> None:
    jobs.enqueue(fold)
    assert look_for(reconciler, clock, 600, config) == 0
    assert queued(queue, "low") == [fresh(fold).task_id]


def test_empty_queue_server_gets_all_jobs_back_in_order(
    reconciler: Reconciler, clock: Clock, config: Config, queue: redis.Redis
) -> None:
    data = rows.split_raw_data()
    submission = rows.submission(data)
    folds = [rows.fold(submission, n, priority="LLH"[n % 3]) for n in (5, 3, 4, 1, 2)]
    for fold in folds:
        jobs.enqueue(fold)
    queue.flushall()
    assert look_for(reconciler, clock, config.RECONCILE_INTERVAL, config) == 5
    ids = {fresh(fold).task_id: fold.databoard_sf_id for fold in folds}
    assert [ids[task_id] for task_id in queued(queue, "high")] == [5, 2]
    assert [ids[task_id] for task_id in queued(queue, "low")] == [3, 4, 1]


def test_final_and_waiting_folds_are_left_alone(
    reconciler: Reconciler, clock: Clock, config: Config, queue: redis.Redis
) -> None:
    split = rows.submission(rows.split_raw_data())
    rows.fold(split, 1, state=State.TESTED)
    rows.fold(split, 2, state=State.ERROR)
    unsplit = rows.raw_data("other")
    jobs.enqueue(unsplit)
    rows.fold(rows.submission(unsplit, submission_id=2), 3)
    assert look_for(reconciler, clock, 600, config) == 0


def test_split_that_was_never_enqueued_is(
    reconciler: Reconciler, clock: Clock, config: Config, queue: redis.Redis
) -> None:
    data = rows.raw_data()
    assert look_for(reconciler, clock, config.RECONCILE_INTERVAL, config) == 1
    assert queued(queue, "high") == [fresh(data).task_id]


def test_execution_with_heartbeats_is_left_alone(
    fold: SubmissionFold, reconciler: Reconciler, clock: Clock, config: Config
) -> None:
    mine = claim(SubmissionFold, 11, fold.task_id, 3)
    for second in range(40):
        clock.now += 5
        db.session.execute(text("SELECT 1"))
        with recording.session() as opened:  # a heartbeat, by a clock that stands still but for microseconds
            opened.execute(
                db.update(SubmissionFold).values(heartbeat_at=fold.queued_at.replace(microsecond=second * 1000))
            )
        assert reconciler.run() == 0
    assert mine.holds()


def test_dead_execution_is_run_again_within_its_time(
    fold: SubmissionFold, reconciler: Reconciler, clock: Clock, config: Config, queue: redis.Redis
) -> None:
    orphan = claim(SubmissionFold, 11, fold.task_id, 3)
    orphan.heartbeat(log_messages="epoch 1", state=State.TRAINED, train_time=2.0)
    assert look_for(reconciler, clock, config.DEAD_AFTER - config.RECONCILE_INTERVAL - 1, config) == 0
    assert look_for(reconciler, clock, config.RECONCILE_INTERVAL, config) == 1
    assert queued(queue, "low") == [fresh(fold).task_id]
    assert (fold.state, fold.token, fold.started_at, fold.attempts) == (State.TODO, None, None, 1)
    assert fold.train_time == 0.0
    assert fold.log_messages == "epoch 1\nAttempt 1 ended without a result: its worker is gone.\n"
    assert not orphan.holds()
    assert not orphan.finish_fold(state=State.TESTED, log_messages="")
    assert fresh(fold).state == State.TODO


def test_last_attempt_that_dies_is_an_error_of_ours(
    fold: SubmissionFold, reconciler: Reconciler, clock: Clock, config: Config
) -> None:
    for _ in range(config.MAX_ATTEMPTS):
        claim(SubmissionFold, 11, fresh(fold).task_id, config.MAX_ATTEMPTS)
        assert look_for(reconciler, clock, config.DEAD_AFTER, config) == 1
    assert (fresh(fold).state, fold.cause) == (State.ERROR, Cause.INFRASTRUCTURE)
    assert fold.ended_at is not None
    assert fold.log_messages.splitlines()[-1] == "This is a fault of the service: the submission need not change."
    assert fold.log_messages.count("ended without a result: its worker is gone.") == 3


def test_last_attempt_of_a_split_that_dies_ends_its_folds(reconciler: Reconciler, clock: Clock, config: Config) -> None:
    data = rows.raw_data(attempts=config.MAX_ATTEMPTS - 1)
    fold = rows.fold(rows.submission(data))
    claim(RawData, data.id, data.task_id, config.MAX_ATTEMPTS)
    assert look_for(reconciler, clock, config.DEAD_AFTER, config) == 1
    assert fresh(data).split_state == State.ERROR
    assert (fresh(fold).state, fold.cause) == (State.ERROR, Cause.INFRASTRUCTURE)


def test_ages_start_anew_after_an_outage(
    fold: SubmissionFold, reconciler: Reconciler, clock: Clock, config: Config, app: Flask
) -> None:
    claim(SubmissionFold, 11, fold.task_id, 3)
    look_for(reconciler, clock, config.DEAD_AFTER - config.RECONCILE_INTERVAL - 1, config)
    working, reconciler._redis = reconciler._redis, jobs.connection(Config(REDIS_URL="redis://127.0.0.1:1"))
    clock.now += 600
    with pytest.raises(redis.ConnectionError):
        reconciler.run()
    reconciler._redis = working
    assert look_for(reconciler, clock, config.DEAD_AFTER - config.RECONCILE_INTERVAL - 1, config) == 0
    assert look_for(reconciler, clock, config.RECONCILE_INTERVAL, config) == 1


def test_ages_start_anew_after_a_pause_of_the_reconciler(
    fold: SubmissionFold, reconciler: Reconciler, clock: Clock, config: Config
) -> None:
    claim(SubmissionFold, 11, fold.task_id, 3)
    assert reconciler.run() == 0
    clock.now += 3600
    assert reconciler.run() == 0


@pytest.fixture
def slow(clock: Clock, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks take longer than what is between them."""
    queued_ids = jobs.queued_ids

    def take_long(*arguments: object) -> set[str]:
        clock.now += 10 * config.RECONCILE_INTERVAL
        return queued_ids(*arguments)

    monkeypatch.setattr(jobs, "queued_ids", take_long)


@pytest.mark.usefixtures("slow")
def test_looks_that_take_long_repair_all_the_same(
    fold: SubmissionFold, reconciler: Reconciler, clock: Clock, config: Config
) -> None:
    assert reconciler.run() == 0
    clock.now += config.RECONCILE_INTERVAL
    assert reconciler.run() == 1


@pytest.mark.usefixtures("slow")
def test_a_pause_in_the_middle_of_a_look_is_no_age(
    fold: SubmissionFold, reconciler: Reconciler, clock: Clock, config: Config
) -> None:
    claim(SubmissionFold, 11, fold.task_id, 3)
    for _ in range(2):
        assert reconciler.run() == 0
        clock.now += config.RECONCILE_INTERVAL


def test_two_reconcilers_enqueue_a_fold_once(
    fold: SubmissionFold, config: Config, queue: redis.Redis, clock: Clock
) -> None:
    pair = [Reconciler(config, queue, clock) for _ in range(2)]
    for _ in range(2):
        for reconciler in pair:
            queue.delete("datarun:reconciler")  # both lead
            reconciler.run()
        clock.now += config.RECONCILE_INTERVAL
    assert queued(queue, "low") == [fresh(fold).task_id]


def test_one_reconciler_leads_until_it_is_gone(
    fold: SubmissionFold, config: Config, queue: redis.Redis, clock: Clock
) -> None:
    first, second = (Reconciler(config, queue, clock) for _ in range(2))
    first.run()
    assert look_for(second, clock, 60, config) == 0
    first.release()
    assert look_for(second, clock, config.RECONCILE_INTERVAL, config) == 1


def test_reconciler_that_takes_over_knows_what_is_dead(
    fold: SubmissionFold, config: Config, queue: redis.Redis, clock: Clock
) -> None:
    claim(SubmissionFold, 11, fold.task_id, config.MAX_ATTEMPTS)
    first, second = (Reconciler(config, queue, clock) for _ in range(2))
    first.run()
    assert look_for(second, clock, config.DEAD_AFTER, config) == 0
    queue.delete("datarun:reconciler")  # the first one was killed, and its lease has ended
    assert second.run() == 1


def test_lease_of_a_killed_reconciler_ends(config: Config, queue: redis.Redis) -> None:
    Reconciler(replace(config, RECONCILE_INTERVAL=0.1), queue).run()
    assert 0 < queue.pttl("datarun:reconciler") <= 300


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # PostgreSQL plans by how many rows there are
def test_look_reads_no_final_row(database_url: str, fold: SubmissionFold, app: Flask) -> None:
    query = str(recording.waiting_folds().compile(db.engine, compile_kwargs={"literal_binds": True}))
    plan = " ".join(str(row) for row in db.session.execute(text(f"EXPLAIN QUERY PLAN {query}")))
    assert "submission_fold USING INDEX ix_submission_fold_state" in plan


def test_contents_that_nobody_owns_for_an_interval_are_removed(reconciler: Reconciler, clock: Clock) -> None:
    owned = rows.split_raw_data().files[0].sha256
    abandoned = files.store(io.BytesIO(b"of a worker that died"))
    reconciler.run()
    late = files.store(io.BytesIO(b"of a worker that is at it"))
    clock.now += SWEEP_INTERVAL - 1
    reconciler.run()
    assert set(db.session.scalars(select(Content.sha256))) == {owned, abandoned, late}
    db.session.rollback()
    clock.now += 1
    reconciler.run()
    assert set(db.session.scalars(select(Content.sha256))) == {owned, late}
