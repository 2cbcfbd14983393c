"""Who imports whom, who reads the environment, who knows the encoding: what holds across files."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from sqlalchemy import make_url

from config import Config
from servers import ROOT

# A module imports only what stands on an earlier line, and packages also themselves
DOWNWARDS = """
    config  runner  post_api  secrecy  logs  patience
    queue_keeper  web
    models  queue_server  processes  disk
    files  postgresql  revision
    schemas  jobs  cache
    api
    app
    dashboard
    recording  listening
    reconciliation  pulse
    worker
    demo  run  gunicorn.conf
"""
LINE = {name: number for number, line in enumerate(DOWNWARDS.split("\n")) for name in line.split()}
WEB = {
    "config", "models", "queue_server", "queue_keeper", "schemas", "files", "jobs", "api", "app", "secrecy", "logs",
    "disk", "revision", "postgresql",
}  # fmt: skip
IMPORTERS = {  # what these alone may import
    "runner": {"runner", "worker"},
    "api": {"api", "app", "dashboard"},
    "app": {"worker", "dashboard"},
    "post_api": {"demo"},
}
NOT_IN_WEB = {"sklearn", "pandas", "scipy", "runner", "worker"}
NOT_IN_RUNNER = {"flask", "flask_sqlalchemy", "sqlalchemy", "rq", "redis", "config"}


def files_of(name: str) -> list[Path]:
    return sorted((ROOT / name).rglob("*.py")) if (ROOT / name).is_dir() else [ROOT / f"{name}.py"]


def imports(path: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0] if not node.level else path.relative_to(ROOT).parts[0]


def imports_of(name: str) -> set[str]:
    return {imported for path in files_of(name) for imported in imports(path)}


def our_files() -> list[Path]:
    return [path for name in LINE for path in files_of(name)]


def test_every_module_has_its_place() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    modules = {path.stem for path in ROOT.glob("*.py")}
    assert (packages | modules | {"api"}) - LINE.keys() == set()


@pytest.mark.parametrize("name", LINE)
def test_imports_go_downwards(name: str) -> None:
    ours = imports_of(name) & LINE.keys() - {name}
    assert {other for other in ours if LINE[other] >= LINE[name]} == set()
    assert {other for other in ours if name not in IMPORTERS.get(other, {name})} == set()
    if name in WEB:
        assert ours - WEB == set()


def test_the_web_never_imports_what_runs_submissions() -> None:
    assert {imported for name in WEB for imported in imports_of(name)} & NOT_IN_WEB == set()


def test_the_runner_never_imports_the_service() -> None:
    assert imports_of("runner") & (NOT_IN_RUNNER | LINE.keys() - {"runner"}) == set()


def modules_after(statement: str, home: Path) -> set[str]:
    """Run a statement in a new process; return the top-level names of all that it imported."""
    code = f"{statement}\nimport json, sys; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"DATARUN_HOME": str(home)},
        check=True,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_the_web_process_holds_nothing_that_runs_submissions(tmp_path: Path) -> None:
    request = "from app import create_app; create_app().test_client().get('/healthz')"
    assert modules_after(request, tmp_path) & NOT_IN_WEB == set()


def test_the_runner_process_holds_nothing_of_the_service(tmp_path: Path) -> None:
    assert modules_after("import runner", tmp_path) & NOT_IN_RUNNER == set()


@pytest.mark.parametrize("module", ["api", "worker"])
def test_what_runs_on_one_database_loads_nothing_of_the_other(module: str) -> None:
    code = f"import {module}, sys; sys.exit('sqlalchemy.dialects.postgresql' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def reads_environment(path: Path) -> bool:
    """True for os.environ and its kin, except `os.environ.clear()` and `.update()`: a child makes its own."""
    tree = ast.parse(path.read_text())
    written = {node.value for node in ast.walk(tree) if getattr(node, "attr", None) in ("clear", "update")}
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node not in written}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            used |= {f"os.{alias.name}" for alias in node.names}
    return bool(used & {"os.environ", "os.environb", "os.getenv", "os.getenvb"})


def test_config_alone_reads_the_environment() -> None:
    """The demo, apart from the service, passes its own environment on to the processes that it starts."""
    assert {path.name for path in our_files() if reads_environment(path)} - {"demo.py"} == {"config.py"}


def test_schemas_alone_knows_the_encoding() -> None:
    knowing = {path.name for path in our_files() if {"base64", "zlib"} & set(imports(path))}
    assert knowing == {"schemas.py", "post_api.py"}


def test_every_setting_says_what_it_means() -> None:
    assert all(setting.name.isupper() and setting.metadata["meaning"] for setting in fields(Config))


def test_there_is_one_table_of_settings() -> None:
    """What other files say about settings is about settings that exist, with their defaults where they show one."""
    known = {setting.name for setting in fields(Config)}
    examples = set(re.findall(r"^#? ?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert examples
    assert examples - known == set()
    assert json.loads((ROOT / "app.json").read_text())["env"].keys() - known == set()
    assert set(re.findall(r"export ([A-Z_]+)", (ROOT / "Makefile").read_text())) - known == {"PATH"}


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_variable_means_the_default(text: str) -> None:
    assert Config.from_environ({setting.name: text for setting in fields(Config)}) == Config()


BAD_DATABASE_URL = (
    "DATABASE_URL is refused, expected scheme://user:password@host:port/name, a number as its port, "
    "and options that libpq knows"
)
BAD_SQLITE_URL = (
    "DATABASE_URL is refused, expected sqlite:////path, without a host or a user, "
    "and options as Python's sqlite3 takes them"
)
BAD_REDIS_URL = "REDIS_URL is refused, expected a number as its port, and options that redis-py knows for its scheme"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("PORT", "http", "PORT is 'http', expected a whole number from 0 to 65535"),
        ("PORT", "-1", "PORT is '-1', expected a whole number from 0 to 65535"),
        ("SLOT_UID", "0", "SLOT_UID is '0', expected a whole number from 1 to 2147479552"),
        ("WORKER_CONCURRENCY", "-2", "WORKER_CONCURRENCY is '-2', expected a whole number from 1 to 1000000000"),
        (
            "DATABASE_CONNECTIONS",
            "1",
            "DATABASE_CONNECTIONS is '1', expected a whole number from 2 to 1000000000",
        ),
        ("PROXY_HOPS", "-1", "PROXY_HOPS is '-1', expected a whole number from 0 to 1000000000"),
        ("PREDICTIONS_LIMIT", "513", "PREDICTIONS_LIMIT is '513', expected a whole number from 1 to 512"),
        ("TIME_LIMIT", "inf", "TIME_LIMIT is 'inf', expected a number from 0.01 to 1000000000"),
        ("DEAD_AFTER", "nan", "DEAD_AFTER is 'nan', expected a number from 0.01 to 1000000000"),
        ("GRACE_PERIOD", "-1", "GRACE_PERIOD is '-1', expected a number from 0.0 to 1000000000"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT is 'xml', expected one of line, json"),
        (
            "DATABASE_URL",
            "mysql://u:secret@host/x",
            "DATABASE_URL is refused, expected a URL that begins with postgres://, postgresql://, "
            "postgresql+psycopg://, sqlite://",
        ),
        (
            "DATABASE_URL",
            "postgres",
            "DATABASE_URL is refused, expected a URL that begins with postgres://, postgresql://, "
            "postgresql+psycopg://, sqlite://",
        ),
        (
            "REDIS_URL",
            "host:6379",
            "REDIS_URL is refused, expected a URL that begins with redis://, rediss://, unix://",
        ),
        ("REDIS_URL", "redis", "REDIS_URL is refused, expected a URL that begins with redis://, rediss://, unix://"),
        ("DATABASE_URL", "postgres://u:secret@host:many/x", BAD_DATABASE_URL),
        ("DATABASE_URL", "postgres://u:secret@host/x?foo=bar", BAD_DATABASE_URL),
        ("DATABASE_URL", "sqlite://host/x", BAD_SQLITE_URL),
        ("DATABASE_URL", "sqlite://host:many/x", BAD_SQLITE_URL),
        ("DATABASE_URL", "sqlite:////x?timeout=abc", BAD_SQLITE_URL),
        ("DATABASE_URL", "sqlite:////x?timeout=1&timeout=2", BAD_SQLITE_URL),
        ("DATABASE_URL", "sqlite:////x?detect_types=1000000000000", BAD_SQLITE_URL),
        ("REDIS_URL", "redis://host:many", BAD_REDIS_URL),
        ("REDIS_URL", "redis://host:65536", BAD_REDIS_URL),
        ("REDIS_URL", "redis://:secret@host?ssl_cert_reqs=none", BAD_REDIS_URL),
        ("REDIS_URL", "rediss://:secret@host?ssl_cert_reqs=some", BAD_REDIS_URL),
        ("REDIS_URL", "unix:///path?foo=bar", BAD_REDIS_URL),
        ("REDIS_URL", "redis://host?db=first", BAD_REDIS_URL),
        (
            "REDIS_URL",
            "redis://:secret@host?decode_responses=yes",
            "REDIS_URL is refused, expected no decode_responses: RQ takes bytes",
        ),
        ("HEARTBEAT_INTERVAL", "25", "HEARTBEAT_INTERVAL is 25 s, expected less than DEAD_AFTER"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Config.from_environ({name: text})


@pytest.mark.parametrize(
    "command",
    [
        ["worker.py"],
        ["dashboard.py"],
        ["-m", "flask", "list-users"],
        ["web.py"],
    ],
    ids=lambda command: command[-1],
)
@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("TIME_LIMIT", "-1", "TIME_LIMIT is '-1', expected a number from 0.01 to 1000000000"),
        ("WEB_CONCURRENCY", "many", "WEB_CONCURRENCY is 'many', expected a whole number from 1 to 1000000000"),
        ("DATARUN_HOME", "/dev/null", "DATARUN_HOME: /dev/null cannot be made: File exists"),
    ],
)
def test_a_process_with_a_bad_setting_ends_with_a_sentence(
    command: list[str], name: str, text: str, sentence: str
) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"PORT": "0", "DASHBOARD_PORT": "0", name: text},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (1, 3)  # 3 is gunicorn's, where its other process says it
    assert done.stderr.splitlines()[-1] == f"not started: {sentence}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://u:p@host:5432/name", "postgresql+psycopg://u:p@host:5432/name"),
        ("postgresql://host/name", "postgresql+psycopg://host/name"),
        ("postgresql+psycopg://host/name", "postgresql+psycopg://host/name"),
        ("sqlite:////tmp/x", "sqlite:////tmp/x"),
    ],
)
def test_spellings_of_the_database_url_are_understood(given: str, used: str) -> None:
    assert Config(DATABASE_URL=given).database_url == used


def test_a_folder_below_the_users_own_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path / "datarun" == Config.from_environ({"DATARUN_HOME": "~/datarun"}).DATARUN_HOME
    assert Path("~no such user/x") == Config.from_environ({"DATARUN_HOME": "~no such user/x"}).DATARUN_HOME


@pytest.mark.parametrize("name", ["home", "h?x=1", "50%", "50%25", "#1 @home:[~]", "\udcff", "50%25\udcff"], ids=ascii)
def test_the_database_is_in_the_home_folder_by_default(tmp_path: Path, name: str) -> None:
    used = make_url(Config(DATARUN_HOME=tmp_path / name).database_url)
    assert (used.database, used.query) == (str(tmp_path / name / "datarun.sqlite"), {})


@pytest.mark.parametrize(
    ("host", "bind"),
    [("127.0.0.1", "127.0.0.1:8000"), ("localhost", "localhost:8000"), ("::1", "[::1]:8000"), ("[::1]", "[::1]:8000")],
)
def test_the_web_server_listens_on_its_host(host: str, bind: str) -> None:
    code = "import runpy; print(runpy.run_path('gunicorn.conf.py')['bind'])"
    environment = {**os.environ, "PORT": "8000", "WEB_HOST": host}
    said = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True, timeout=60)
    assert said == f"{bind}\n"
