"""rq-dashboard below /rq/, where that package is installed: queues, workers and jobs for people, mended from our side.

What is mended in rq-dashboard 0.9.0:
- with RQ 3, jobs with dependencies and busy workers broke their pages; jobs were read by pickle; both queues are always
  shown; the queue server is ours, embedded or not
- its pages wrote the texts of jobs, and the queue's name in an address, as they are into HTML and scripts
- GET /requeue/<queue> changed state; an unknown queue, registry or job, and a job that has not failed where it is to be
  requeued, was an error of the server
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import redis
import rq
from flask import Flask, abort, current_app, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from jinja2 import BaseLoader, Environment
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job, requeue_job
from rq.serializers import JSONSerializer
from werkzeug.exceptions import MethodNotAllowed

import jobs

try:
    from rq_dashboard import web
except ImportError:  # the rest works without it
    web = None

PREFIX = "/rq"
REGISTRIES = ("queued", "scheduled", "deferred", "started", "finished", "failed", "canceled")
FIRST_QUEUE = jobs.QUEUES[0]


class ShownJob(Job):
    """A job as the pages read it: as JSON, never unpickled, and by its description."""

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:
        super().__init__(id, connection, JSONSerializer)

    @property
    def dependency_ids(self) -> list[bytes]:
        return [task_id.encode() for task_id in self._dependency_ids]

    def get_call_string(self) -> str | None:
        return self.description


class ShownQueue(rq.Queue):
    job_class = ShownJob

    @classmethod
    def all(cls, connection: redis.Redis, **_: Any) -> list[rq.Queue]:
        """Return our queues, also those to which nothing has been posted yet."""
        return [cls(name, connection=connection, serializer=JSONSerializer) for name in jobs.QUEUES]


class ShownWorker(rq.Worker):
    @classmethod
    def all(cls, connection: redis.Redis, **_: Any) -> list[rq.Worker]:
        return super().all(connection, job_class=ShownJob, queue_class=ShownQueue, serializer=JSONSerializer)

    def get_current_job(self) -> Job | None:
        try:
            return super().get_current_job()
        except NoSuchJobError:  # it has just ended
            return None


class MendedTemplates(BaseLoader):
    """rq-dashboard's templates, in which every value is escaped, and words and looks are finished."""

    def __init__(self, original: BaseLoader) -> None:
        self._original = original

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable | None]:
        source, path, up_to_date = self._original.get_source(environment, template)
        for pattern, mended in MENDS:
            source = re.sub(pattern, mended, source)
        return source, path, up_to_date


STYLE = (
    "#job-data .exc_info { margin-left: 0 } .footer-text { padding: 1.5em 0 }"
    " p.fixed.intro { height: auto } .exc_info { overflow-wrap: break-word }"
)
MENDS = (
    # what is shown is escaped
    (r"\$\('<div/>'\)\.text\(([\w.]+)\)\.html\(\)", r"\1"),  # by the next, instead
    (r"<%=", "<%-"),  # Underscore's tag for escaped text
    (r"'\{\{ queue\.name \}\}'", "{{ queue.name|tojson }}"),
    # what is loaded is there
    (r"url_for\('static'", "url_for('rq_dashboard.static'"),
    # words and looks
    (r"<title>.*</title>", "<title>{{ active_tab|default('job')|capitalize }} · datarun</title>"),
    (r'<a class="navbar-brand">.*</a>', '<a class="navbar-brand" href="{{ rq_url_prefix }}">datarun</a>'),
    (r"\[\{\{ instance_list\.index\(instance\) \}\}\] ", ""),
    (r"&nbsp;jobs", ""),
    (r'colspan="6"', 'colspan="8"'),
    (r"(?s)This list below contains all the registered queues.*?</p>", "Jobs of each queue, by their state.</p>"),
    (r"This list below contains all the registered workers .*", "Workers, their jobs, and their queues in order."),
    (r"This list below contains all the queued jobs on queue", "Jobs {{ registry_name }} on"),
    (r"<p><strong>Depends on</strong>:</p>", "<% if (d.depends_on) { %><p><strong>Depends on</strong>:</p><% } %>"),
    (r"(?s)<p><strong>Exception Info</strong>.*?</pre>", r"<% if (d.exc_info) { %>\g<0><% } %>"),
    (r'<span class = "row col-12">', '<span class="col-12">'),
    (r"</head>", f"<style>{STYLE}</style></head>"),
)


def mend() -> None:
    """Have rq-dashboard use ours in place of what it imported; once in a process."""
    web.Job, web.Queue, web.Worker = ShownJob, ShownQueue, ShownWorker
    web.config.serializer = JSONSerializer
    web.requeue_job = partial(requeue_job, serializer=JSONSerializer)
    web.from_url = lambda *_, **__: (None, jobs.app_connection())
    web.blueprint.jinja_loader = MendedTemplates(web.blueprint.jinja_loader)


if web:
    mend()


def init_app(app: Flask) -> None:
    """Mount the dashboard, unless it is not installed."""
    if not web:
        return
    app.config["RQ_DASHBOARD_REDIS_URL"] = [server_name(app.config["REDIS_URL"])]  # shown, nothing else
    app.config["RQ_DASHBOARD_DISABLE_DELETE"] = True  # the database would bring what is deleted back
    with app.app_context():
        app.redis_conn = jobs.app_connection()
    app.register_blueprint(web.blueprint, url_prefix=PREFIX)
    app.before_request(check_address)
    app.register_error_handler(NoSuchJobError, lambda _: (jsonify(detail="There is no such job (any more)."), 404))
    app.register_error_handler(InvalidJobOperation, lambda _: (jsonify(detail="The job has not failed."), 400))
    app.register_error_handler(redis.RedisError, answer_without_queue)


def server_name(redis_url: str) -> str:
    """Return what to call the queue server: no credentials."""
    parts = urlsplit(redis_url)
    return parts.hostname or parts.path or "embedded queue server"


def check_address() -> ResponseReturnValue | None:
    """Answer 404 where rq-dashboard would fail, and 405 to a GET that would change something."""
    if request.blueprint != web.blueprint.name:
        return None
    if request.endpoint == "rq_dashboard.requeue_all" and request.method != "POST":
        raise MethodNotAllowed(["POST"])
    given = request.view_args or {}
    if given.get("queue_name", FIRST_QUEUE) is None:
        path = {"queue_name": FIRST_QUEUE, "registry_name": "queued", "per_page": 8, "order": "asc", "page": 1}
        return redirect(url_for(".jobs_overview", instance_number=0, **path))
    if not (
        given.get("instance_number", 0) == 0
        and given.get("queue_name", FIRST_QUEUE) in jobs.QUEUES
        and given.get("registry_name", "queued") in REGISTRIES
        and re.fullmatch("[A-Za-z0-9_-]+", given.get("job_id", "x"))
        and all(re.fullmatch("[1-9][0-9]{0,3}", str(given.get(name, 1))) for name in ("page", "per_page"))
    ):
        abort(404)
    return None


def answer_without_queue(error: redis.RedisError) -> ResponseReturnValue:
    current_app.logger.error("no queue: %s", error)
    return jsonify(detail="The queue server cannot be reached for now; please try again."), 503
