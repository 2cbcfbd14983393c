"""rq-dashboard below /rq/ and on its own: what it shows, what it refuses, and how it looks in a real browser."""

import sys
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
import redis
import requests
from browser import Browser
from flask import Flask
from flask.testing import FlaskClient
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

import dashboard
import jobs
import servers
from servers import PASSWORD, USERNAME, Service

MARKUP = "<img src=x onerror=\"document.title='stolen'\">"
needs_browser = pytest.mark.skipif(not browser.DRIVER, reason="needs chromium and chromedriver: see .ci/run")


def failed_job(connection: redis.Redis, description: str = "fold 99 of submission 24 on iris") -> str:
    """Leave a job of the low queue that failed with hostile text; return its id."""
    queue = Queue("low", connection=connection, serializer=JSONSerializer)
    job = queue.enqueue_call("builtins.int", args=(MARKUP,), description=description, meta={"note": MARKUP})
    SimpleWorker([queue], connection=connection, serializer=JSONSerializer).work(burst=True, logging_level="CRITICAL")
    assert job.is_failed
    return job.id


# ---- without a browser


@pytest.fixture(params=["mounted", "alone"])
def shown(request: pytest.FixtureRequest, client: FlaskClient) -> FlaskClient:
    """A client of the web application, then of the dashboard's own."""
    if request.param == "mounted":
        return client
    alone = dashboard.create_app(servers_config(client.application)).test_client()
    alone.environ_base["HTTP_AUTHORIZATION"] = client.environ_base["HTTP_AUTHORIZATION"]
    return alone


def servers_config(app: Flask) -> dashboard.Config:
    return dashboard.Config(**{name: app.config[name] for name in dashboard.Config.__dataclass_fields__})


def test_both_queues_are_shown_before_anything_was_posted(shown: FlaskClient) -> None:
    queues = shown.get("/rq/0/data/queues.json").json["queues"]
    assert [(queue["name"], queue["count"]) for queue in queues] == [("high", 0), ("low", 0)]


def test_queued_jobs_and_busy_workers_are_shown(shown: FlaskClient, queue: redis.Redis) -> None:
    with shown.application.app_context():
        jobs.enqueue_all([jobs.fold_job(11, "a-task", "H", 24, "iris", None)])
    [job] = shown.get("/rq/0/data/jobs/high/queued/8/asc/1.json").json["jobs"]
    assert (job["id"], job["description"]) == ("a-task", "fold 11 of submission 24 on iris")
    worker = SimpleWorker([jobs.queue("high", queue)], connection=queue, serializer=JSONSerializer)
    worker.register_birth()
    worker.prepare_execution(Job.fetch("a-task", connection=queue, serializer=JSONSerializer))
    [seen] = shown.get("/rq/0/data/workers.json").json["workers"]
    assert (seen["name"], seen["queues"]) == (worker.name, ["high"])
    assert seen["current_job"]["call_string"] == "fold 11 of submission 24 on iris"
    queue.delete("rq:job:a-task")
    assert shown.get("/rq/0/data/workers.json").json["workers"][0]["current_job"] == "idle"
    worker.register_death()


def test_a_job_with_dependencies_is_shown(shown: FlaskClient, queue: redis.Redis) -> None:
    on = Queue("low", connection=queue, serializer=JSONSerializer)
    first = on.enqueue_call("builtins.int")
    second = on.enqueue_call("builtins.int", depends_on=first)
    answer = shown.get(f"/rq/0/data/job/{second.id}.json")
    assert answer.status_code == 200
    assert answer.json["depends_on"] == [first.id]


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/rq/1/view/queues", 404),
        ("/rq/0/view/jobs/default/queued/8/asc/1", 404),
        ("/rq/0/view/jobs/');alert(1);('/queued/8/asc/1", 404),
        ("/rq/0/view/jobs/high/strange/8/asc/1", 404),
        ("/rq/0/data/jobs/high/queued/0/asc/1.json", 404),
        ("/rq/0/data/jobs/high/queued/many/asc/1.json", 404),
        ("/rq/0/data/job/nothing.json", 404),
        ("/rq/0/view/job/nothing", 404),
        ("/rq/0/data/job/a b.json", 404),
        ("/rq/0/view/job/a%0Ab", 404),
        ("/rq/0/view/job/%C3%A9", 404),
        ("/rq/requeue/low", 405),
        ("/rq/nothing", 404),
    ],
)
def test_what_cannot_be_shown_is_an_error_of_the_client(shown: FlaskClient, url: str, status: int) -> None:
    answer = shown.get(url)
    assert answer.status_code == status
    assert list(answer.json) == ["detail"]


def test_the_page_of_jobs_begins_with_the_high_queue(shown: FlaskClient) -> None:
    answer = shown.get("/rq/0/view/jobs")
    assert (answer.status_code, answer.location) == (302, "/rq/0/view/jobs/high/queued/8/asc/1")


def test_failed_jobs_are_requeued_by_a_post_alone(shown: FlaskClient, queue: redis.Redis) -> None:
    task_id = failed_job(queue)
    assert shown.get("/rq/requeue/low").status_code == 405
    assert shown.head("/rq/requeue/low").status_code == 405
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert shown.post("/rq/requeue/low", headers=elsewhere).status_code == 403
    assert FailedJobRegistry("low", connection=queue).get_job_ids() == [task_id]
    assert shown.post("/rq/requeue/low").json == {"count": 1, "status": "OK"}
    assert queue.lrange("rq:queue:low", 0, -1) == [task_id.encode()]


def test_a_job_that_has_not_failed_is_not_requeued(shown: FlaskClient, queue: redis.Redis) -> None:
    with shown.application.app_context():
        jobs.enqueue_all([jobs.fold_job(11, "a-task", "H", 24, "iris", None)])
    answer = shown.post("/rq/job/a-task/requeue")
    assert (answer.status_code, answer.json) == (400, {"detail": "The job has not failed."})
    for task_id in ("a-job", "a b", "a%0Ab"):
        assert shown.post(f"/rq/job/{task_id}/requeue").status_code == 404
    assert queue.lrange("rq:queue:high", 0, -1) == [b"a-task"]


def test_nothing_is_deleted(shown: FlaskClient, queue: redis.Redis) -> None:
    task_id = failed_job(queue)
    assert shown.post(f"/rq/job/{task_id}/delete").json == {"status": "DISABLED"}
    assert shown.post("/rq/queue/low/failed/empty").json == {"status": "DISABLED"}
    assert FailedJobRegistry("low", connection=queue).get_job_ids() == [task_id]


def test_the_dashboard_alone_shows_nothing_else(client: FlaskClient) -> None:
    alone = dashboard.create_app(servers_config(client.application)).test_client()
    assert alone.get("/").location == "/rq/"
    assert alone.get("/rq/").status_code == 401
    assert alone.get("/runapp/rawdata/", auth=(USERNAME, PASSWORD)).status_code == 404


def test_a_queue_server_that_is_gone_is_503(client: FlaskClient) -> None:
    gone = jobs.connection(dashboard.Config(REDIS_URL="redis://127.0.0.1:1"))
    client.application.extensions["datarun_queue"] = gone
    answer = client.get("/rq/0/data/queues.json")
    assert answer.status_code == 503
    assert answer.json == {"detail": "The queue server cannot be reached for now; please try again."}


# ---- in a browser


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser.chromium(tmp_path_factory.mktemp("chrome")) as opened:
        yield opened


@pytest.fixture(scope="module", params=["embedded", "REDIS_URL"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on the embedded queue server, then on one of its own."""
    settings = {"REDIS_URL": ""} if request.param == "embedded" else {}
    with servers.service(tmp_path_factory.mktemp("dashboard"), **settings) as service:
        yield service


def signed_in(url: str) -> str:
    return url.replace("://", f"://{USERNAME}:{PASSWORD}@")


@pytest.fixture
def connection(running: Service) -> Iterator[redis.Redis]:
    """A connection to the service's queue server, which would not end while it is open."""
    settings = {"REDIS_URL": running.environment["REDIS_URL"], "DATARUN_HOME": running.home}
    with jobs.connection(dashboard.Config(**settings)) as opened:
        yield opened
        opened.connection_pool.disconnect()


@needs_browser
def test_pages_show_queues_workers_and_a_failed_job(
    running: Service, connection: redis.Redis, chrome: Browser, tmp_path: Path
) -> None:
    registry = FailedJobRegistry("low", connection=connection)
    task_id = hostile_failure(connection, registry)
    at = signed_in(f"{running.base_url}/rq")
    pages = {
        "": "low",
        "/0/view/workers": "high, low",
        "/0/view/jobs/low/failed/8/asc/1": "fold 99 of submission 24 on iris",
        f"/0/view/job/{task_id}": "invalid literal for int()",
    }
    for number, (page, text) in enumerate(pages.items()):
        chrome.open(at + page)
        chrome.wait_for(text)
        chrome.photograph(tmp_path / f"{number}.png")
        assert chrome.console() == []
        assert chrome.run("return document.title").endswith("· datarun")
        assert chrome.run("return document.querySelectorAll('.section img').length") == 0
        assert chrome.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert MARKUP.replace("'", "\\'") in chrome.text()


def hostile_failure(connection: redis.Redis, registry: FailedJobRegistry) -> str:
    """As `failed_job`, by a queue that no worker of the service takes from."""
    queue = Queue("other", connection=connection, serializer=JSONSerializer)
    job = queue.enqueue_call(
        "builtins.int", args=(MARKUP,), description="fold 99 of submission 24 on iris", meta={"note": MARKUP}
    )
    SimpleWorker([queue], connection=connection, serializer=JSONSerializer).work(burst=True, logging_level="CRITICAL")
    job.refresh()
    assert job.is_failed
    job.origin = registry.name
    job.save()
    registry.add(job, ttl=3600)
    return job.id


@needs_browser
def test_a_button_requeues_a_failed_job(running: Service, connection: redis.Redis, chrome: Browser) -> None:
    task_id = hostile_failure(connection, FailedJobRegistry("other", connection=connection))
    chrome.open(signed_in(f"{running.base_url}/rq/0/view/job/{task_id}"))
    chrome.wait_for("Requeue")
    chrome.click("#requeue-job-btn")
    waiting = lambda: connection.lrange("rq:queue:other", 0, -1) == [task_id.encode()]  # noqa: E731
    servers.wait_until(waiting, browser.PATIENCE, "the job is in its queue again")
    connection.delete("rq:queue:other")


@needs_browser
def test_a_page_of_another_site_changes_nothing(running: Service, chrome: Browser, tmp_path: Path) -> None:
    """The browser has signed in; then a page elsewhere posts a form, and follows what it can."""
    chrome.open(signed_in(f"{running.base_url}/rq/"))
    chrome.wait_for("low")
    page = tmp_path / "page.html"
    url = f"{running.base_url}/runapp/rawdata/split/"
    page.write_text(f'<form method="post" action="{url}"><input name="raw_data_id" value="1"></form><p>Elsewhere</p>')
    chrome.open(page.as_uri())
    chrome.wait_for("Elsewhere")
    chrome.run("document.forms[0].submit()")
    assert "A page of another site made this request" in chrome.wait_for("detail")


@needs_browser
@pytest.mark.parametrize("signs_in", [False, True])
def test_docs_show_every_request_and_load_nothing_from_elsewhere(
    running: Service, chrome: Browser, signs_in: bool
) -> None:
    at = f"{running.base_url}/docs/"
    chrome.open(signed_in(at) if signs_in else at)
    text = chrome.wait_for("/runapp/testpredictions/new/")
    assert all(group in text for group in ("Data sets", "Submission folds", "Predictions"))
    assert chrome.console() == []
    loaded = chrome.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [url for url in loaded if not url.startswith((running.base_url, signed_in(running.base_url), "data:"))] == []
    assert chrome.run("return document.documentElement.scrollWidth <= window.innerWidth")


@needs_browser
def test_the_dashboard_runs_alone_on_localhost(running: Service, chrome: Browser) -> None:
    port = servers.free_port()
    environment = running.environment | {"DASHBOARD_PORT": str(port), "WEB_HOST": "0.0.0.0"}
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "dashboard.py"]
    with servers.running(command, running.home / "dashboard.log", cwd=servers.ROOT, env=environment) as process:
        servers.wait_until(lambda: is_up(url), servers.START_TIMEOUT, "the dashboard answers")
        assert requests.get(f"{url}/rq/", timeout=10).status_code == 401
        connections = servers.psutil.Process(process.pid).net_connections()
        assert {c.laddr.ip for c in connections if c.status == "LISTEN"} == {"127.0.0.1"}
        chrome.open(signed_in(url))
        assert "high" in chrome.wait_for("low")
        assert chrome.console() == []


def is_up(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 401
    except requests.RequestException:
        return False
