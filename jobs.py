"""The two queues: what is enqueued, and how. A job is the name of one of two functions and a row's id, as JSON."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import rq.job
from flask import current_app
from redis import Redis, RedisError
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.client import Pipeline
from redis.connection import ConnectionPool
from redis.retry import Retry
from rq import Queue
from rq.command import send_command
from rq.results import Result
from rq.serializers import JSONSerializer

import queue_server
from config import Config
from models import RawData, SubmissionFold

QUEUES = ("high", "low")
QUEUE_OF_PRIORITY = {"H": "high", "L": "low"}
TRAIN_TEST_FOLD = "worker.train_test_fold"
SPLIT_RAW_DATA = "worker.split_raw_data"
CONNECT_TIMEOUT = 1  # seconds
ANSWER_TIMEOUT = 2  # seconds, for a command of the web
FAILURE_TTL = 24 * 3600  # seconds that rq-dashboard shows what RQ holds for a failure
TIMEOUT_MARGIN = 300  # seconds; RQ's own timeout comes after each of ours

log = logging.getLogger(__name__)

Row = RawData | SubmissionFold


class Job(rq.job.Job):
    """A job that runs one of our functions, whatever Redis holds, and returns nothing to it."""

    functions: ClassVar[dict[str, Callable[[int, str], None]]] = {}  # by name; a worker fills it
    success_callback = failure_callback = stopped_callback = None

    def perform(self) -> None:
        if self.func_name not in self.functions:
            raise ValueError("not a function of datarun")
        self.functions[self.func_name](int(self.args[0]), self.id)

    def forget(self, pipeline: Pipeline) -> None:
        """Remove what Redis holds of a job that is over; RQ's `delete` first asks seven times what there is.

        What another execution of the same job has written there expires by itself.
        """
        results = Result.get_key(self.id)  # of an earlier failure, if it was enqueued again by hand
        pipeline.delete(self.key, self.execution_registry.key, results, self.dependents_key, self.dependencies_key)

    def send_webhooks(self, *_args: object, **_options: object) -> None:
        """Nobody of ours asks for any."""


def connection(config: Config, patient: bool = False) -> Redis:
    """Return a connection to the queue server that `config` names, or to the embedded one, which it starts.

    It costs a request little where the server is gone; a `patient` one, for workers, survives an outage of a minute.
    """
    options: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT}
    if patient:
        options |= {"retry": Retry(ExponentialBackoff(cap=2, base=0.1), 30)}
    else:
        options |= {"retry": Retry(NoBackoff(), 0), "socket_timeout": ANSWER_TIMEOUT}
    if config.REDIS_URL.startswith("rediss:") and config.REDIS_CERTIFICATE == "any":
        options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    if config.REDIS_URL:
        return Redis.from_url(config.REDIS_URL, **options)
    pool = ConnectionPool(
        connection_class=queue_server.EmbeddedConnection, home=config.DATARUN_HOME.resolve(), **options
    )
    return Redis(connection_pool=pool)


def app_connection() -> Redis:
    """Return the present app's connection."""
    extensions = current_app.extensions
    if "datarun_queue" not in extensions:
        extensions["datarun_queue"] = connection(extensions["datarun_config"])
    return extensions["datarun_queue"]


def queue(name: str, redis: Redis) -> Queue:
    return Queue(name, connection=redis, serializer=JSONSerializer, job_class=Job)


def enqueue(row: Row) -> bool:
    """Enqueue the committed row as the job `row.task_id`; False, logged, where the queue server is gone.

    A row that is not enqueued is found by the workers' reconciliation, and enqueued then.
    """
    return enqueue_all([describe(row)]) == 1


def describe(row: Row) -> tuple[str, dict[str, Any]]:
    """Return the queue's name and the job of a row."""
    if isinstance(row, RawData):
        return split_job(row.id, row.task_id, row.name, row.time_limit)
    data = row.submission.raw_data_row
    return fold_job(row.databoard_sf_id, row.task_id, row.priority, row.databoard_s, data.name, data.time_limit)


def split_job(raw_data_id: int, task_id: str, data_name: str, time_limit: float | None) -> tuple[str, dict[str, Any]]:
    return "high", _job(SPLIT_RAW_DATA, raw_data_id, task_id, f"split of {_shown(data_name)}", time_limit)


def fold_job(
    fold_id: int, task_id: str, priority: str, submission_id: int, data_name: str, time_limit: float | None
) -> tuple[str, dict[str, Any]]:
    description = f"fold {fold_id} of submission {submission_id} on {_shown(data_name)}"
    return QUEUE_OF_PRIORITY[priority], _job(TRAIN_TEST_FOLD, fold_id, task_id, description, time_limit)


def _shown(data_name: str) -> str:
    """The name as rq-dashboard may show it: its job page does not escape descriptions."""
    return re.sub(r"[^\w .-]", "_", data_name)


def _job(function: str, row_id: int, task_id: str, description: str, time_limit: float | None) -> dict[str, Any]:
    config = current_app.config
    timeout = int((time_limit or config["TIME_LIMIT"]) + config["DELIVERY_LIMIT"] + TIMEOUT_MARGIN)
    return {"func": function, "args": (row_id,), "job_id": task_id, "description": description, "timeout": timeout}


def enqueue_all(described: Iterable[tuple[str, dict[str, Any]]], at_front: bool = False) -> int:
    """Enqueue jobs in the order given; return how many were, all or none of each queue."""
    jobs: dict[str, list[dict[str, Any]]] = {}
    for name, job in described:
        jobs.setdefault(name, []).append(job)
    count = 0
    try:
        for name, batch in jobs.items():
            target = queue(name, app_connection())
            prepared = [
                Queue.prepare_data(**job, result_ttl=0, failure_ttl=FAILURE_TTL, at_front=at_front) for job in batch
            ]
            count += len(target.enqueue_many(prepared))
    except (RedisError, OSError) as error:
        log.warning("not enqueued for now: %s", error)
    return count


def queued_ids(redis: Redis) -> set[str]:
    """Return the ids of all jobs that wait for a worker."""
    with redis.pipeline(transaction=False) as pipeline:
        for name in QUEUES:
            pipeline.lrange(f"{Queue.redis_queue_namespace_prefix}{name}", 0, -1)
        return {task_id.decode() for ids in pipeline.execute() for task_id in ids}


def stop_tasks(task_ids: Sequence[str | None]) -> None:
    """Tell the workers that run these jobs to stop them, after the commit that replaced or removed their rows.

    Best effort: a worker also notices within a second that its row is no longer its own.
    """
    ids = [task_id for task_id in task_ids if task_id]
    try:
        with app_connection().pipeline(transaction=False) as pipeline:
            for task_id in ids:
                pipeline.hget(Job.key_for(task_id), "worker_name")
            for task_id, worker_name in zip(ids, pipeline.execute(), strict=True):
                if worker_name:
                    send_command(app_connection(), worker_name.decode(), "stop-job", job_id=task_id)
    except (RedisError, OSError) as error:
        log.warning("stop command not sent: %s", error)
