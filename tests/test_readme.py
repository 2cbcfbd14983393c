"""The README is true: its session gives what it shows, its table has every setting."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

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


def test_the_figures_are_those_of_the_published_run() -> None:
    [figures] = publish.BETWEEN.findall(section("Speed"))
    assert figures == publish.shown(publish.PUBLISHED)


def test_the_table_of_settings_has_every_setting() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \| (.*?) \|$", section("Settings"), re.M)
    assert rows == [
        (field.name, field.metadata["shown"], field.metadata["unit"], field.metadata["meaning"])
        for field in dataclasses.fields(Config)
    ]
