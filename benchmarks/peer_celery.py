"""The Celery app that datarun is compared to: `celery -A benchmarks.peer_celery -b BROKER worker`."""

from celery import Celery

from .peer_tasks import train_and_record

app = Celery()
app.conf.task_ignore_result = True
app.task(name="train_and_record")(train_and_record)
