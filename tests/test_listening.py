"""A worker's side of the queues, alone: what a job costs, what is shown of it, and what is left of it."""

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from redis.connection import AbstractConnection
from rq.suspension import resume, suspend

import disk
import jobs
import servers
from config import Config
from listening import Listener
from servers import ROOT, wait_until

SOON = 60  # seconds: a deadline, not a wait
Run = Callable[[str], None]
STARTS = """
import sys
from pathlib import Path
import disk
from config import Config
from listening import Listener

home, url = Path(sys.argv[1]), sys.argv[2]
Listener(["high"], Config(DATARUN_HOME=home, REDIS_URL=url), {}, disk.Disk(home)).work()
"""


@pytest.fixture
def listener(config: Config, app: Flask) -> Iterator[Listener]:
    """A listener to both queues; what its jobs do is for `when_run` to say."""
    handler, functions = signal.getsignal(signal.SIGTERM), jobs.Job.functions
    with app.app_context():
        yield Listener(jobs.QUEUES, config, {}, disk.Disk(config.DATARUN_HOME))
    jobs.Job.functions = functions
    signal.signal(signal.SIGTERM, handler)


def enqueue(*task_ids: str) -> None:
    assert jobs.enqueue_all(jobs.fold_job(1, task_id, "L", 1, "iris", None) for task_id in task_ids) == len(task_ids)


def work(listener: Listener, run: Run, meanwhile: Callable[[], None] | None = None) -> None:
    """Work until asked to stop: by what the jobs run, or at the end of what happens meanwhile, in a thread."""
    jobs.Job.functions = {jobs.TRAIN_TEST_FOLD: lambda _fold_id, task_id: run(task_id)}

    def happen() -> None:
        try:
            meanwhile()
        finally:
            listener.request_stop()

    with ThreadPoolExecutor(1) as threads:
        happened = threads.submit(happen) if meanwhile else None
        listener.work(logging_level="WARNING")
    if happened:
        happened.result()


def shown(queue: redis.Redis, listener: Listener) -> dict[str, str]:
    """What Redis holds of the worker."""
    return {name.decode(): value.decode() for name, value in queue.hgetall(listener.key).items()}


def test_a_job_costs_five_round_trips(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    at_job: list[int] = []
    send = AbstractConnection.send_packed_command

    def count(connection: AbstractConnection, command: Any, **options: Any) -> None:
        sent.append(1)
        send(connection, command, **options)

    def run(task_id: str) -> None:
        at_job.append(len(sent))
        if task_id == "third":
            listener.request_stop()

    enqueue("first", "second", "third")
    monkeypatch.setattr(AbstractConnection, "send_packed_command", count)
    work(listener, run)
    assert at_job[2] - at_job[1] == 5


def test_a_running_job_is_shown_and_leaves_nothing(listener: Listener, queue: redis.Redis) -> None:
    def run(task_id: str) -> None:
        job = queue.hgetall(f"rq:job:{task_id}")
        [execution] = queue.smembers(f"rq:worker:{listener.name}:executions")
        assert (job[b"status"], job[b"worker_name"].decode()) == (b"started", listener.name)
        assert queue.zscore("rq:wip:low", execution) and queue.exists(f"rq:execution:{execution.decode()}")
        assert queue.ttl(f"rq:execution:{execution.decode()}") > 0 and queue.ttl(listener.key) > 0
        assert shown(queue, listener)["state"] == "busy"

    def see_it_idle() -> None:
        wait_until(lambda: "successful_job_count" in shown(queue, listener), SOON, "the job is over")
        wait_until(lambda: shown(queue, listener)["state"] == "idle", SOON, "the worker is idle")

    enqueue("only")
    work(listener, run, see_it_idle)
    assert queue.keys("*only*") == []
    assert not queue.exists("rq:wip:low") and not queue.smembers("rq:workers")


def test_a_worker_of_one_queue_leaves_nothing_either(config: Config, listener: Listener, queue: redis.Redis) -> None:
    alone = Listener(["low"], config, {}, disk.Disk(config.DATARUN_HOME))
    enqueue("only")
    work(alone, lambda _task_id: alone.request_stop())
    assert queue.keys("*only*") + queue.keys("*intermediate*") == []


def test_a_suspended_worker_takes_no_job(listener: Listener, queue: redis.Redis) -> None:
    ran: list[str] = []

    def see_it_suspended() -> None:
        wait_until(lambda: shown(queue, listener).get("state") == "suspended", SOON, "the worker is suspended")
        assert (jobs.queued_ids(queue), ran) == ({"only"}, [])
        resume(queue)
        wait_until(lambda: ran, SOON, "the job runs")

    suspend(queue)
    enqueue("only")
    work(listener, ran.append, see_it_suspended)
    assert ran == ["only"]


def test_a_worker_registers_again_where_redis_has_lost_its_data(listener: Listener, queue: redis.Redis) -> None:
    def lose_data() -> None:
        wait_until(lambda: shown(queue, listener).get("state") == "idle", SOON, "the worker is idle")
        queue.flushall()
        wait_until(lambda: queue.smembers("rq:workers:high"), SOON, "the worker listens to high again")
        assert shown(queue, listener)["queues"] == "high,low"
        assert queue.ttl(listener.key) > 0

    work(listener, lambda _task_id: None, lose_data)


def test_a_worker_that_still_starts_is_ended(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(SOON)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-c", STARTS, tmp_path, url]
        with servers.running(command, tmp_path / "log", cwd=ROOT) as process, silent.accept()[0] as connection:
            assert connection.recv(1)  # its first command, which nobody answers
            process.terminate()
            assert process.wait(SOON) == -signal.SIGTERM
