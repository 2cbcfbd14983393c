"""What is enqueued, and what a job may run."""

import json
from collections.abc import Iterator

import pytest
import redis
import rows
from flask import Flask
from rq import Callback, Queue
from rq.serializers import JSONSerializer

import jobs
from config import Config


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def the_job(queue: redis.Redis, name: str) -> jobs.Job:
    [task_id] = Queue(name, connection=queue, serializer=JSONSerializer).job_ids
    return jobs.Job.fetch(task_id, connection=queue, serializer=JSONSerializer)


@pytest.mark.parametrize(("priority", "name"), [("H", "high"), ("L", "low")])
def test_fold_is_enqueued_by_its_priority(queue: redis.Redis, priority: str, name: str) -> None:
    fold = rows.fold(rows.submission(rows.split_raw_data("iris"), submission_id=24), 11, priority=priority)
    assert jobs.enqueue(fold) is True
    job = the_job(queue, name)
    assert (job.id, job.func_name, list(job.args)) == (fold.task_id, "worker.train_test_fold", [11])
    assert job.description == "fold 11 of submission 24 on iris"
    assert (job.timeout, job.result_ttl, job.failure_ttl) == (600 + 3600 + 300, 0, 86400)


def test_job_has_the_time_that_its_data_set_grants(queue: redis.Redis) -> None:
    data = rows.raw_data(time_limit=86_400.0)
    for name, row in (("high", data), ("low", rows.fold(rows.submission(data)))):
        jobs.enqueue(row)
        assert the_job(queue, name).timeout == 86_400 + 3600 + 300


def test_split_is_enqueued_high(queue: redis.Redis) -> None:
    data = rows.raw_data("iris")
    assert jobs.enqueue(data) is True
    job = the_job(queue, "high")
    assert (job.id, job.func_name, list(job.args)) == (data.task_id, "worker.split_raw_data", [data.id])
    assert job.description == "split of iris"


def test_job_is_json_without_anything_of_the_client(queue: redis.Redis) -> None:
    data = rows.raw_data("<b onclick=x>é&'")
    jobs.enqueue(data)
    job = the_job(queue, "high")
    assert job.description == "split of _b onclick_x_é__"
    assert json.loads(job.data) == ["worker.split_raw_data", None, [data.id], {}]


def test_enqueueing_without_a_queue_server_is_said_and_costs_little(app: Flask) -> None:
    data = rows.raw_data()
    app.extensions["datarun_queue"] = jobs.connection(Config(REDIS_URL="redis://127.0.0.1:1"))
    assert jobs.enqueue(data) is False


@pytest.mark.parametrize("function", ["os.system", "worker.main", "worker", "builtins.exit"])
def test_job_of_another_function_is_not_run(queue: redis.Redis, function: str) -> None:
    calls = []
    jobs.Job.functions = {jobs.TRAIN_TEST_FOLD: lambda *arguments: calls.append(arguments)}
    job = jobs.Job.create(function, args=(1,), connection=queue, serializer=JSONSerializer)
    with pytest.raises(ValueError, match="not a function of datarun"):
        job.perform()
    assert calls == []


def test_job_ignores_callbacks_and_returns_nothing(queue: redis.Redis) -> None:
    jobs.Job.functions = {jobs.TRAIN_TEST_FOLD: lambda fold_id, task_id: (fold_id, task_id)}
    job = jobs.Job.create(
        jobs.TRAIN_TEST_FOLD,
        args=(1,),
        connection=queue,
        serializer=JSONSerializer,
        on_success=Callback("os.abort"),
        on_failure=Callback("os.abort"),
        on_stopped=Callback("os.abort"),
    )
    job.save()
    job = jobs.Job.fetch(job.id, connection=queue, serializer=JSONSerializer)
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)
    assert job.perform() is None


def test_stop_of_what_no_worker_runs_does_nothing(app: Flask) -> None:
    fold = rows.fold(rows.submission(rows.split_raw_data()))
    jobs.stop_tasks([fold.task_id])  # was never enqueued
    jobs.enqueue(fold)
    jobs.stop_tasks([fold.task_id])  # waits
    app.extensions["datarun_queue"] = jobs.connection(Config(REDIS_URL="redis://127.0.0.1:1"))
    jobs.stop_tasks([fold.task_id])  # no queue server
