"""GET /healthz: whether database and queue answer, and who listens to the queues."""

import redis
from flask import Blueprint, current_app
from rq import Queue
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

import jobs
from models import db

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> tuple[dict, int]:
    """Say whether the service works: 503 without a database; a queue that is down or without worker is said."""
    database = database_answers()
    return {"database": database, **queue_health()}, 200 if database else 503


def database_answers() -> bool:
    try:
        with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:  # waits for no lock
            connection.execute(text("SELECT 1"))
        return True
    except SQLAlchemyError as error:
        current_app.logger.error("healthz: no database: %s", error)
        return False


def queue_health() -> dict[str, object]:
    """Return whether the queue server answers, and for each queue its jobs and the workers that listen to it.

    Redis forgets a worker DEAD_AFTER its last sign of life, so that those it still knows are alive.
    """
    try:
        connection = jobs.app_connection()
        with connection.pipeline(transaction=False) as pipeline:
            for name in jobs.QUEUES:
                pipeline.llen(f"{Queue.redis_queue_namespace_prefix}{name}")
                pipeline.smembers(f"rq:workers:{name}")
            depths_and_keys = pipeline.execute()
            keys = sorted(set().union(*depths_and_keys[1::2]))
            for key in keys:
                pipeline.hmget(key, "last_heartbeat", "death")
            seen = dict(zip(keys, pipeline.execute(), strict=True)) if keys else {}
    except (redis.RedisError, OSError) as error:
        current_app.logger.error("healthz: no queue: %s", error)
        return {"queue": False, "queues": None}
    queues = {}
    for name, depth, listening in zip(jobs.QUEUES, depths_and_keys[::2], depths_and_keys[1::2], strict=True):
        heartbeats = [beat.decode() for beat, death in map(seen.get, listening) if beat and not death]
        queues[name] = {"jobs": depth, "workers": len(heartbeats), "last_heartbeat": max(heartbeats, default=None)}
    return {"queue": True, "queues": queues}
