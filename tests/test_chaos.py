"""Nothing accepted is lost, stuck or done twice, whatever dies: the fault test, short. `make chaos` runs longer."""

import os
import subprocess
import sys

import pytest

from servers import DIES_WITH_PARENT, ROOT

SECONDS = 10  # of faults
TIMEOUT = 300  # seconds, for all of a run


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are found by a subreaper, which Linux alone has")
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_service_survives_whatever_dies(database: str) -> None:
    options = ["--minutes", str(SECONDS / 60), "--database", database]
    run = subprocess.run(
        [*DIES_WITH_PARENT, sys.executable, "tests/chaos.py", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=TIMEOUT,
        check=False,
    )
    assert run.returncode == 0, run.stdout
