"""A plain RQ worker, which forks a work horse for each job: `python -m benchmarks.peer_rq QUEUE_SERVER`."""

import sys

from redis import Redis
from rq import Queue, Worker

from . import peer_database, peer_tasks  # noqa: F401 (imported before the fork, or each job would import them)

QUEUE = "peer"

if __name__ == "__main__":
    connection = Redis.from_url(sys.argv[1])
    Worker([Queue(QUEUE, connection=connection)], connection=connection).work(logging_level="WARNING")
