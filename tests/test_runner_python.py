"""RUNNER_PYTHON: submissions run in another virtual environment than the service."""

import platform
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pytest
import sklearn
from workers import Running, final, iris_fold

import files
from config import Config
from models import State
from runner import Zygote
from servers import ROOT

LIBRARIES = Path(sysconfig.get_paths()["purelib"])


def virtual_environment(folder: Path, *without: str) -> str:
    """Make one that has our libraries, but for those named; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [own] = folder.glob("lib/python*/site-packages")
    for path in LIBRARIES.iterdir():
        if path.suffix != ".dist-info" and path.stem.partition(".")[0] not in without and path.name != "__pycache__":
            (own / path.name).symlink_to(path)
    return str(folder / "bin" / "python")


@pytest.fixture
def other_python(tmp_path: Path) -> str:
    """An interpreter with a package, `only_here`, that no other has."""
    python = virtual_environment(tmp_path / "other")
    [own] = (tmp_path / "other").glob("lib/python*/site-packages")
    (own / "only_here.py").write_text("MAX_ITER = 500\n")
    return python


def test_submissions_import_what_that_interpreter_has(
    start: Callable[..., Running], other_python: str, tmp_path: Path
) -> None:
    start(RUNNER_PYTHON=other_python)
    fold = final(iris_fold("imports_a_package_of_its_python"))
    assert (fold.state, fold.cause) == (State.TESTED, None), fold.log_messages
    assert "only_here is at only_here.py" in fold.log_messages


def test_the_service_s_interpreter_does_not_have_it(shared: Running) -> None:
    fold = final(iris_fold("imports_a_package_of_its_python"))
    assert (fold.state, fold.cause) == (State.ERROR, "import_error")
    assert fold.log_messages.endswith(
        "Failed while importing the submission: ModuleNotFoundError: No module named 'only_here'"
    )


def test_a_fold_says_what_it_ran_with(shared: Running) -> None:
    fold = final(iris_fold("logistic_regression"))
    assert fold.versions == {
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "pandas": pandas.__version__,
        "scikit-learn": sklearn.__version__,
    }
    posted = {"submission_hash": fold.submission.files, "raw_data_hash": fold.submission.raw_data_row.files}
    for name, rows in posted.items():
        assert getattr(fold, name) == files.folder_hash({row.name: row.sha256 for row in rows})


@pytest.mark.parametrize("package", ["numpy", "pandas", "sklearn", "psutil"])
def test_what_an_interpreter_lacks_is_named(tmp_path: Path, package: str) -> None:
    python = virtual_environment(tmp_path / "lacking", package)
    with pytest.raises(RuntimeError) as raised:
        Zygote(python, tmp_path / "scratch").start()
    assert str(raised.value) == (
        f"{python} cannot run submissions: ModuleNotFoundError: No module named '{package}'; "
        "it needs Python 3.11 or later, numpy, pandas, scikit-learn and psutil"
    )


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    with pytest.raises(RuntimeError, match=f"^{python} cannot run submissions: No such file or directory$"):
        Zygote(str(python), tmp_path / "scratch").start()


def test_a_scratch_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.touch()  # stands for any error of the system, as for a folder that belongs to another user
    with pytest.raises(RuntimeError, match=f"^{scratch} cannot be used: File exists$"):
        Zygote(sys.executable, scratch).start()


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("no interpreter")
    python.chmod(0o755)
    with pytest.raises(RuntimeError, match=f"^{python} cannot run submissions: Exec format error$"):
        Zygote(str(python), tmp_path / "scratch").start()


def test_a_worker_that_cannot_run_submissions_says_why_and_ends(
    start: Callable[..., Running], config: Config, tmp_path: Path
) -> None:
    python = virtual_environment(tmp_path / "lacking", "sklearn")
    running = start(RUNNER_PYTHON=python)
    assert running.process.wait(60) == 1
    assert f"not started: {python} cannot run submissions: ModuleNotFoundError: No module named 'sklearn'" in (
        running.log()
    )


def test_a_worker_is_stopped_while_it_cannot_start_another_zygote(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    running = start(RUNNER_PYTHON=python)
    running.logged("isolation:")
    running.remember()
    python.write_text("#!/bin/sh\nexit 3\n")
    running.zygote().kill()
    running.logged("no zygote: ")
    assert running.stop() == 0
    assert "Traceback" not in running.log()


def test_the_runner_needs_four_packages_alone(tmp_path: Path) -> None:
    """numpy, pandas, scikit-learn, psutil, and what these bring along."""
    service = {"flask", "sqlalchemy", "rq", "redis", "werkzeug", "marshmallow", "flask_migrate", "alembic", "psycopg"}
    python = virtual_environment(tmp_path / "few", *service)
    code = "import runner, runner.zygote, runner.selftest, sys; print(*sys.modules)"
    done = subprocess.run(
        [python, "-P", "-c", code], env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, timeout=120
    )
    assert not service & {name.partition(".")[0] for name in done.stdout.decode().split()}
