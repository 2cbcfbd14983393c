"""The README is true: its session gives what it shows, its table has every setting."""

import dataclasses
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import requests

import servers
from benchmarks import publish
from config import Config
from servers import Service

README = (servers.ROOT / "README.md").read_text()
VARIES = [
    (r'"task_id":"[0-9a-f-]{36}"', '"task_id":"..."'),
    (r"trained in [0-9.]+ s", "trained in ... s"),
    (r"TESTED (strong|partial|none)", "TESTED ..."),
]


def section(title: str) -> str:
    """Return the README's section of that title."""
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.S | re.M).group(1)


def commands(text: str) -> list[tuple[str, str]]:
    """Return the commands of a section's console blocks, here documents included, each with the output shown."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            here = re.match(r"[^\n]*<<'EOF'\n.*?^EOF\n", part, re.S | re.M)
            command = here.group() if here else part.partition("\n")[0] + "\n"
            found.append((command, part[len(command) :]))
    return found


def without_what_varies(text: str) -> str:
    for pattern, replacement in VARIES:
        text = re.sub(pattern, replacement, text)
    return text


def folds_are_tested(service: Service) -> bool:
    folds = requests.get(f"{service.base_url}/runapp/submissionfold-light/", auth=service.auth, timeout=30).json()
    return all(fold["state"] == "TESTED" for fold in folds)


def test_the_session_gives_what_it_shows(service: Service, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    (tmp_path / "post_api.py").symlink_to(servers.ROOT / "post_api.py")
    settings = {
        "DATARUN": f"{service.base_url}/runapp",
        "CREDENTIALS": ":".join(service.auth),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path),
    }
    [(first, _nothing), *session] = commands(section("A session"))
    assert first.startswith("export DATARUN=http://127.0.0.1:8000/runapp CREDENTIALS=datarun:")
    for command, shown in session:
        if "submissionfold-light" in command:  # "a moment later"
            servers.wait_until(lambda: folds_are_tested(service), 60, "the fold is TESTED")
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=settings, capture_output=True, timeout=60)
        assert without_what_varies(done.stdout.decode().rstrip("\n")) == without_what_varies(shown.strip("\n")), command


def test_a_procfile_that_is_run_by_hand_listens_on_the_default_port() -> None:
    before, _start, _after = section("Deploy with a Procfile").partition("$ honcho start")
    assert re.search(r"export [^#\n]*\bPORT=(\d+)", before)[1] == str(Config().PORT)  # honcho's own is another


KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect("var/datarun.sqlite")
connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS row (name)")
with connection:
    connection.execute("INSERT INTO row VALUES (?)", sys.argv[1:])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="needs sqlite3")
def test_a_restored_sqlite_is_the_backup_whatever_a_killed_process_has_left(tmp_path: Path) -> None:
    def run(*command: str) -> int:
        return subprocess.run(command, cwd=tmp_path, timeout=60).returncode

    backup, *restore = [command for command, _ in commands(section("Back up and restore")) if "sqlite" in command]
    file = tmp_path / "var" / "datarun.sqlite"
    file.parent.mkdir()
    assert run(sys.executable, "-c", KILLED, "before") == -signal.SIGKILL
    assert run("bash", "-c", backup) == 0
    assert run(sys.executable, "-c", KILLED, "after") == -signal.SIGKILL
    assert file.with_name("datarun.sqlite-wal").stat().st_size > 0
    assert [run("bash", "-c", command) for command in restore] == [0] * len(restore)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM row").fetchall() == [("before",)]


def test_the_figures_are_those_of_the_published_run() -> None:
    [figures] = publish.BETWEEN.findall(section("Speed"))
    assert figures == publish.shown(publish.PUBLISHED)


def test_the_table_of_settings_has_every_setting() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \| (.*?) \|$", section("Settings"), re.M)
    assert rows == [
        (field.name, field.metadata["shown"], field.metadata["unit"], field.metadata["meaning"])
        for field in dataclasses.fields(Config)
    ]
