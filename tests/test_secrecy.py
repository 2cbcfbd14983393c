"""What others on the machine can read of the service: neither the memory of its processes, nor its database."""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import users
from restricted import needs_root

import secrecy
import servers
import worker
from app import Application, create_app
from config import Config
from models import db
from runner import Zygote
from servers import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux closes memory")
READS_DUMPABLE = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE


@linux
def test_memory_is_closed_for_the_process_and_what_it_forks() -> None:
    code = "import secrecy, os, sys; secrecy.close_memory(); pid = os.fork(); pid and os.waitpid(pid, 0);"
    result = subprocess.run([sys.executable, "-c", code + READS_DUMPABLE], cwd=ROOT, check=True, capture_output=True)
    assert result.stdout.split() == [b"0", b"0"]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Service]:
    """A service with the embedded queue server and database."""
    with servers.service(tmp_path_factory.mktemp("closed"), REDIS_URL="") as running:
        yield running


def is_closed(process: psutil.Process) -> bool:
    """Whether the kernel gives the process's files in /proc to root alone, or, for root itself, reads its own limit.

    /proc/<pid>/coredump_filter and its kin belong to root where a process is not dumpable (proc(5)).
    """
    return Path(f"/proc/{process.pid}/environ").stat().st_uid == 0


@linux
@pytest.mark.skipif(os.geteuid() == 0, reason="for root, /proc shows no difference")
def test_memory_of_every_process_with_credentials_is_closed(embedded: servers.Service) -> None:
    ours = [p for p in embedded.processes() if "valkey" not in p.name()]
    assert len(ours) >= 5  # two of gunicorn, the worker's, the queue's keeper
    assert [p.cmdline() for p in ours if not is_closed(p)] == []


def test_the_database_is_for_us_alone(embedded: servers.Service) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in embedded.home.glob("datarun.sqlite*")}
    assert set(modes) >= {"datarun.sqlite", "datarun.sqlite-wal", "datarun.sqlite-shm"}
    assert set(modes.values()) == {0o600}


def test_a_database_that_was_open_is_closed(tmp_path: Path) -> None:
    for name in ("datarun.sqlite", "datarun.sqlite-wal", "other"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    secrecy.close_database(tmp_path / "datarun.sqlite")
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "datarun.sqlite": 0o600,
        "datarun.sqlite-wal": 0o600,
        "other": 0o644,
    }


@needs_root
def test_a_folder_that_another_user_has_cannot_be_ours() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "cache").mkdir(mode=0o755)
        pid = os.fork()
        if pid == 0:
            try:
                os.setuid(users.user(90))
                Path(folder, "cache").stat()
                secrecy.close_folder(Path(folder, "cache"))
            except PermissionError as error:
                os._exit(error.errno)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.EACCES


def test_the_home_folder_lets_folds_pass_and_nobody_look(tmp_path: Path) -> None:
    home = tmp_path / "home"
    mask = os.umask(0o022)
    try:
        app = create_app(Config(DATARUN_HOME=home))
    finally:
        os.umask(mask)
    assert home.stat().st_mode & 0o777 == 0o711
    with app.app_context():
        db.create_all()
        assert {path.stat().st_mode & 0o777 for path in home.glob("datarun.sqlite*")} == {0o600}
        db.engine.dispose()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder beside that in which relative databases are; the working directory is a third, without files."""
    for name in ("home", "working"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.setattr(Application, "auto_find_instance_path", lambda _self: str(tmp_path / "instance"))
    yield tmp_path / "home"
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///db", "db"),
        ("sqlite:///db?timeout=5", "db"),
        ("sqlite:///file:db?uri=true", "db"),
        ("sqlite:///file:a%20db?uri=true&cache=private", "a db"),
        ("sqlite:///file:{}/instance/db?uri=true", "db"),
        ("sqlite:///file://{}/instance/db?uri=true", "db"),
    ],
)
def test_a_database_of_any_spelling_is_for_us_alone_and_tried_by_the_self_test(
    elsewhere: Path, url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tried = elsewhere.parent / "instance", []
    monkeypatch.setattr(Zygote, "start", lambda self: tried.extend(self._settings["secrets"]))
    folder.mkdir()
    config = Config(DATARUN_HOME=elsewhere, DATABASE_URL=url.format(elsewhere.parent), MIN_ISOLATION="none")
    mask = os.umask(0o022)
    try:
        app = create_app(config)
        with app.app_context():
            db.create_all()
            modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
            db.engine.dispose()
    finally:
        os.umask(mask)
    assert modes == dict.fromkeys((name, f"{name}-wal", f"{name}-shm"), 0o600)
    worker.start_zygote(app, config)
    database = [folder / f"{name}{ending}" for ending in ("", "-wal", "-shm", "-journal")]
    ours = [elsewhere / "queue", elsewhere / "cache", *database, Path(worker.__file__).with_name(".env")]
    assert tried == [str(path) for path in ours]
    assert (elsewhere / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:db?uri=true&mode=memory", "sqlite:////nowhere/at/all/db"]
)
def test_a_database_without_a_file_is_no_error(elsewhere: Path, url: str) -> None:
    create_app(Config(DATARUN_HOME=elsewhere, DATABASE_URL=url))
    assert list(elsewhere.parent.glob("*/*")) == []
