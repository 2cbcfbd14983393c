"""A worker's side of the queues: an RQ worker that takes jobs, is seen by others, and stops without losing any.

Its signal handlers raise nothing: RQ's own lose a job that has just left its queue, and `perform_job` swallows what
they raise while a job runs (rq/worker/base.py, `except:`). They set a flag and wake whoever waits.

A job costs five round trips to the queue server, where RQ's own bookkeeping takes 25: short folds would wait for those.
"""

import logging
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import redis
from redis.client import Pipeline
from rq import Queue, SimpleWorker, worker_registration
from rq.exceptions import DequeueTimeout
from rq.executions import Execution
from rq.serializers import JSONSerializer
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now
from rq.worker import WorkerStatus

import disk
import jobs
from config import Config

log = logging.getLogger(__name__)

BLOCKING = 1  # seconds that a worker blocks on its queues
RQ_MARGIN = 15  # seconds; RQ blocks for that much less than a worker's time to live (rq/worker/base.py)
MAINTENANCE_INTERVAL = 60  # seconds between two looks at RQ's registries of started and failed jobs
LONGEST_PAUSE = 2.0  # seconds between two attempts to reach a queue server that is gone
SUSPENSION_LOOK = 1.0  # seconds between two looks whether `rq resume` has ended a suspension


class Listener(SimpleWorker):
    """Takes jobs from the queues, in their order, and calls our function of that name in this process."""

    log_result_lifespan = False
    log_job_description = False

    def __init__(
        self,
        queues: Sequence[str],
        config: Config,
        functions: Mapping[str, Callable[[int, str], None]],
        home: disk.Disk,
    ) -> None:
        self._home = home
        self._grace_period = config.GRACE_PERIOD
        self._dead_after = math.ceil(config.DEAD_AFTER)
        self._parent = os.getppid()
        self.stop_at = math.inf  # time.monotonic() at which what still runs is given back
        self.job_stopped = False  # by RQ's stop command
        self.wakes, self._waker = os.pipe()  # readable when there is news
        os.set_blocking(self._waker, False)
        jobs.Job.functions = dict(functions)
        patient = jobs.connection(config, patient=True)
        self._impatient = jobs.connection(config)
        super().__init__(
            [jobs.queue(name, patient) for name in queues],
            name=f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}",
            connection=patient,
            worker_ttl=BLOCKING + RQ_MARGIN,
            job_monitoring_interval=math.ceil(config.HEARTBEAT_INTERVAL),
            maintenance_interval=MAINTENANCE_INTERVAL,
            job_class=jobs.Job,
            serializer=JSONSerializer,
        )
        signal.signal(signal.SIGTERM, self.request_stop)  # before, it ends the process: RQ forgets requests made so far

    # ---- stopping

    def _install_signal_handlers(self) -> None:
        """Ours are there since before the worker is seen by others."""

    def request_stop(self, _signum: int = 0, _frame: object = None) -> None:
        """Take no further job; what runs has GRACE_PERIOD from now on."""
        self._stop_requested = True
        self.stop_at = min(self.stop_at, time.monotonic() + self._grace_period)
        self._wake()

    @property
    def stopping(self) -> bool:
        if not self._stop_requested and os.getppid() != self._parent:
            self.request_stop()  # the main process was killed
        return self._stop_requested

    def kill_horse(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """Note that the present job is to be stopped: RQ calls this from its thread that listens to commands."""
        self.job_stopped = True
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._waker, b".")

    def sleep(self, seconds: float) -> None:
        """Sleep until there is news."""
        if select.select([self.wakes], [], [], max(seconds, 0.0))[0]:
            os.read(self.wakes, 4096)

    # ---- taking jobs

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, max_idle_time: int | None = None) -> Any:
        """Wait for a job; None when asked to stop. RQ's own waits a minute between two attempts to connect.

        While the disk is full it takes none, and listens to no queue.
        """
        pause = 0.1
        while not self.stopping:
            try:
                if not self._home.may_start():
                    worker_registration.unregister(self)
                    self.sleep(disk.LOOK_INTERVAL)
                elif self._show_idle():
                    return self._dequeue(timeout)
                else:
                    self.set_state(WorkerStatus.SUSPENDED)
                    self.sleep(SUSPENSION_LOOK)
            except DequeueTimeout:
                pause = 0.1
            except redis.RedisError as error:  # gone, or its own disk is full
                log.warning("no queue server: %s", error)
                self.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        return None

    def _dequeue(self, timeout: int | None) -> Any:
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()
        self.job_stopped = False
        return self.queue_class.dequeue_any(
            self.queues, timeout, connection=self.connection, job_class=jobs.Job, serializer=JSONSerializer
        )

    def check_for_suspension(self, burst: bool) -> None:
        """Done by `_show_idle`, also while the worker waits."""

    # ---- a job's bookkeeping

    def execute_job(self, job: jobs.Job, queue: Queue) -> None:
        """Execute a job in this process; that the worker is idle afterwards, `_show_idle` says."""
        self.perform_job(job, queue, self.prepare_execution(job))

    def prepare_execution(self, job: jobs.Job) -> Execution:
        """Show that the job runs, in one step where RQ takes two: its worker's, then its work horse's."""
        ttl = self.get_heartbeat_ttl(job)
        with self._together() as pipeline:
            execution = Execution.create(job, ttl, pipeline, self.name)
            self.executions[execution.id] = execution
            self.set_state(WorkerStatus.BUSY, pipeline)
            self.heartbeat(pipeline=pipeline)
            job.prepare_for_execution(self.name, pipeline)
            pipeline.persist(job.key)
            if len(self.queues) == 1:  # RQ moves the job there (LMOVE) if it need not wait for several queues (BLPOP)
                pipeline.lrem(self.queues[0].intermediate_queue_key, 1, job.id)
            pipeline.execute()
        return execution

    def prepare_job_execution(self, job: jobs.Job, remove_from_intermediate_queue: bool = False) -> None:
        """Done by `prepare_execution`."""

    def handle_execution_ended(self, job: jobs.Job, queue: Queue, heartbeat_ttl: int) -> None:
        """Note the end; no heartbeat is due, as no callback follows."""
        job.ended_at = now()

    def handle_job_success(self, job: jobs.Job, queue: Queue, started_job_registry: Any, execution: Execution) -> None:
        """Forget the job: ours have no result, no dependents, no repeats and no rate limit, which RQ looks for."""
        with self._together() as pipeline:
            self.increment_successful_job_count(pipeline)
            self.increment_total_working_time(job.ended_at - job.started_at, pipeline)
            self.cleanup_execution(job, pipeline, execution)
            job.forget(pipeline)
            pipeline.execute()

    # ---- being seen

    def _together(self) -> Pipeline:
        """Return a pipeline. A transaction has twice the answers to read, and what is written here only shows."""
        return self.connection.pipeline(transaction=False)

    def _show_idle(self) -> bool:
        """Show that this worker waits for a job; return whether it may take one: `rq suspend` keeps all from it.

        Where the queue server has lost its data, register again.
        """
        with self._together() as pipeline:
            self.set_state(WorkerStatus.IDLE, pipeline)
            self.heartbeat(pipeline=pipeline)
            pipeline.sismember(self.redis_workers_keys, self.key)
            pipeline.exists(WORKERS_SUSPENDED)
            *_, registered, suspended = pipeline.execute()
        if not registered:
            with self.connection.pipeline() as pipeline:
                pipeline.hset(self.key, mapping=self.serialize())
                worker_registration.register(self, pipeline)
                pipeline.execute()
        return not suspended

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Let Redis forget this worker DEAD_AFTER its last sign of life.

        Without a pipeline, RQ's loop calls it between two jobs: `_show_idle` follows.
        """
        if pipeline is not None:
            super().heartbeat(self._dead_after, pipeline)

    def get_heartbeat_ttl(self, job: jobs.Job, working_time: float = 0.0) -> int:
        """How long RQ's record of a running job lives; it only shows, so that a pause need not cost it."""
        return 4 * self._dead_after

    def job_heartbeat(self) -> None:
        """Say in Redis, for people who look there, that the job runs; a queue server that is gone costs little."""
        execution = next(iter(self.executions.values()), None)
        if execution is None:
            return
        patient, self.connection = self.connection, self._impatient
        try:
            self.maintain_heartbeats(execution.job, execution)
        except (redis.RedisError, OSError) as error:
            log.warning("no queue server: %s", error)
        finally:
            self.connection = patient
