"""The demo succeeds, shows what it should on any terminal, and leaves nothing, however it ends."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

import demo
from config import ROOT

TIMEOUT = 180  # seconds for the whole demo
GONE_TIMEOUT = 60  # seconds until a process that was told to end has ended
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
COMMAND = [sys.executable, str(ROOT / "demo.py")]


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The demo's environment, with an instance in use in it; at the end no file and no process may be left.

    Orphans become children of this process, where prctl can make them.
    """
    folder = tmp_path_factory.mktemp("d")  # short, as a socket's path must be
    before = set(psutil.Process().children(recursive=True))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # hides the terminal's width
    yield {**ours, "TMPDIR": str(folder), "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "PORT": "1"}
    left = set(psutil.Process().children(recursive=True)) - before
    _, running = psutil.wait_procs(left, timeout=GONE_TIMEOUT)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    for process in running:
        process.kill()
    assert running == []
    assert list(folder.iterdir()) == []


def test_the_demo_succeeds_without_a_terminal(environment: dict[str, str]) -> None:
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    heading = next(line for line in lines if line.split()[:2] == ["fold", "data"])
    assert " ".join(heading.split()) == (
        "fold data submission priority state cause train s validate s test s MB validation test"
    )
    rows = lines[lines.index(heading) + 1 :][:40]
    states = [row.split()[4] for row in rows]
    assert [row.split()[0] for row in rows] == [str(i) for i in range(1, 41)]
    assert (states.count("TESTED"), states.count("ERROR")) == (35, 5)
    assert {row.split()[2] for row in rows if "ERROR" in row and "train_error" in row} == {"careless"}
    assert {row.split()[3] for row in rows} == {"L", "H"}
    assert "NameError: name 'np' is not defined" in done.stdout
    assert lines[-1] == "All 40 folds ended as expected: 5 in ERROR, the others TESTED."


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGTERM, "Starting"), (signal.SIGINT, "Waiting")],
)
def test_an_interrupted_demo_leaves_nothing(environment: dict[str, str], number: signal.Signals, moment: str) -> None:
    with subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert any(line.startswith(moment) for line in process.stdout)
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(TIMEOUT) == 128 + number


def fold(submission: str, score: float | None = None, **answer: Any) -> demo.Fold:
    answer = {"log_messages": "the log", "cause": None, **answer}
    scores = {"validation_score": score, "test_score": score}
    nothing = np.array([])
    return demo.Fold(demo.CHALLENGES[0], submission, "L", nothing, nothing, nothing, nothing, answer, **scores)


@pytest.mark.parametrize("width", [50, 80, 200])
def test_the_table_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    times = dict.fromkeys(("train_time", "validation_time", "test_time"), 0.1234)
    measured = {**times, "train_memory": 123_000, "test_memory": 1_000}
    demo.print_table({i: fold("careless", 0.9, state="TESTED", **measured) for i in (1, 20, 40)})
    text = capsys.readouterr().out
    heading, *rows = [line for line in text.splitlines() if line.split()[:1] in (["fold"], ["1"], ["20"], ["40"])]
    assert len(rows) == 3
    assert {len(row) for row in rows} == {len(heading)}
    assert len(heading) <= width
    assert ("A wider terminal also shows: validate s" in text) is (width < 200)


@pytest.mark.parametrize(
    ("posted", "fault"),
    [
        (fold("forest", 0.9, state="TESTED"), None),
        (fold("forest", 0.5, state="TESTED"), "scores below 0.8"),
        (fold("forest", state="ERROR", cause="timeout"), "ended in ERROR: timeout\nthe log"),
        (fold("careless", state="ERROR", cause="train_error"), None),
        (
            fold("careless", state="ERROR", cause="crashed"),
            "should have failed with train_error, but: ERROR crashed",
        ),
        (fold("careless", 0.9, state="TESTED"), "should have failed with train_error, but: TESTED "),
    ],
)
def test_a_fold_that_is_not_as_expected_fails_the_demo(posted: demo.Fold, fault: str | None) -> None:
    assert posted.fault == fault
