"""GET /metrics for Prometheus, where prometheus-client is installed.

All of it is counted in the database and in Redis when it is asked for, so that any number of web processes say the
same. Counts of folds are gauges: folds can be replaced and removed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, Flask, Response, request
from sqlalchemy import func, select

import jobs
from api.health import queue_health
from models import RawData, State, SubmissionFold, db

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily as Gauge
    from prometheus_client.exposition import choose_encoder
except ImportError:  # the rest works without it
    CollectorRegistry = None

RECENT = timedelta(hours=1)
KB = 1000  # bytes
MEASURES = (  # name, meaning, and the column of each phase
    (
        "fold_seconds",
        "Wall time",
        {
            "train": SubmissionFold.train_time,
            "validation": SubmissionFold.validation_time,
            "test": SubmissionFold.test_time,
        },
    ),
    (
        "fold_cpu_seconds",
        "CPU time",
        {"train": SubmissionFold.train_cpu_time, "test": SubmissionFold.test_cpu_time},
    ),
    (
        "fold_memory_bytes",
        "Peak memory",
        {"train": SubmissionFold.train_memory * KB, "test": SubmissionFold.test_memory * KB},
    ),
)

blueprint = Blueprint("metrics", __name__)


def init_app(app: Flask) -> None:
    """Serve /metrics, unless prometheus-client is not installed."""
    if CollectorRegistry:
        app.register_blueprint(blueprint)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Say how many folds are in which state, what waits, who works, and how long it took."""
    registry = CollectorRegistry()
    registry.register(Collector())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), content_type=content_type)


class Collector:
    """What is asked for its metrics, in their order."""

    def collect(self) -> Iterator[Any]:
        yield from folds()
        yield from waiting_folds()
        yield from recent_folds()
        yield from splits()
        yield from queues()


def gauge(name: str, meaning: str, labels: Iterable[str], values: Iterable[tuple[Iterable[Any], float]]) -> Any:
    """Return a metric with a value for each tuple of labels."""
    family = Gauge(f"datarun_{name}", meaning, labels=list(labels))
    for label_values, value in values:
        family.add_metric([str(label) for label in label_values], value)
    return family


def folds() -> Iterator[Any]:
    """Two counts, as an index has the first, and few folds are in the second."""
    fold = SubmissionFold
    counted = select(fold.state, fold.new, func.count()).group_by(fold.state, fold.new)
    by_state: Counter[str] = Counter()
    undelivered = 0
    for state, new, count in db.session.execute(counted):
        by_state[state] += count
        undelivered += count if state == State.TESTED and new else 0
    del by_state[State.ERROR]
    by_cause = select(fold.cause, func.count()).where(fold.state == State.ERROR).group_by(fold.cause)
    values = [((state, ""), count) for state, count in by_state.items()]
    values += [((State.ERROR, cause), count) for cause, count in db.session.execute(by_cause)]
    yield gauge("folds", "Submission folds by state and, in ERROR, cause", ("state", "cause"), values)
    yield gauge("folds_undelivered", "TESTED folds whose predictions nobody has fetched", (), [((), undelivered)])


def waiting_folds() -> Iterator[Any]:
    """Folds that no worker has, those that wait for a split included."""
    fold = SubmissionFold
    waiting = select(fold.priority, func.count(), func.min(fold.queued_at))
    waiting = waiting.where(fold.state == State.TODO, fold.token.is_(None)).group_by(fold.priority)
    found = {jobs.QUEUE_OF_PRIORITY[priority]: values for priority, *values in db.session.execute(waiting)}
    at = datetime.now(UTC)
    rows = [(queue, *found.get(queue, (0, at))) for queue in jobs.QUEUES]
    counts = [((queue,), count) for queue, count, _ in rows]
    ages = [((queue,), max(0.0, (at - oldest).total_seconds())) for queue, _, oldest in rows]
    yield gauge("folds_waiting", "Submission folds that no worker has yet, by queue", ("queue",), counts)
    yield gauge("oldest_waiting_fold_seconds", "Since the oldest of them was posted", ("queue",), ages)


def recent_folds() -> Iterator[Any]:
    """What the folds that ended within RECENT took."""
    fold = SubmissionFold
    columns = [measure for _, _, phases in MEASURES for measure in phases.values()]
    statistics = [statistic(measure) for measure in columns for statistic in (func.avg, func.max)]
    ended = select(func.count(), *statistics).where(fold.ended_at >= datetime.now(UTC) - RECENT)
    count, *found = db.session.execute(ended).one()
    yield gauge("folds_ended", "Submission folds that ended within the last hour", (), [((), count)])
    values = iter(found)
    for name, meaning, phases in MEASURES:
        labelled = [((phase, statistic), next(values)) for phase in phases for statistic in ("mean", "max")]
        yield gauge(name, f"{meaning} of those", ("phase", "statistic"), labelled if count else [])


def splits() -> Iterator[Any]:
    counted = select(RawData.split_state, func.count()).group_by(RawData.split_state)
    values = [((state or "",), count) for state, count in db.session.execute(counted)]
    yield gauge("raw_data", "Data sets by the state of their split", ("split_state",), values)


def queues() -> Iterator[Any]:
    """What Redis says; while it is gone, only that."""
    health = queue_health()
    yield gauge("queue_up", "Whether the queue server answers", (), [((), health["queue"])])
    found = (health["queues"] or {}).items()
    depths = [((name,), queue["jobs"]) for name, queue in found]
    yield gauge("queue_jobs", "Jobs that wait in a queue", ("queue",), depths)
    listening = [((name,), queue["workers"]) for name, queue in found]
    yield gauge("workers", "Workers that listen to a queue", ("queue",), listening)
