"""The rows of a fold: taken in several threads where they are large, and the same as numpy's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from restricted import SETUPS, Bench, in_setup, needs_linux

from runner import workflow

N = 1000
DTYPES = ("<f8", ">f4", "?", "i1", "S3", "U2", "M8[s]", "c16", "i4,f8", "O")
ROWS = {
    "in order": np.arange(0, N, 3),
    "in any order, repeated": np.random.default_rng(0).integers(N, size=2 * N),
    "fewer than threads": np.array([N - 1]),
    "none": np.empty(0, int),
    "counted from the end": np.arange(-N, 0),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_selections_are_numpys(dtype: str, rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "LARGE", 1)
    flat = np.arange(6 * N).view("M8[s]") if dtype[0] == "M" else np.arange(6 * N).astype(dtype)
    for X in (flat[:N], flat.reshape(N, 6), flat.reshape(6, N).T, flat.reshape(N, 6)[:, ::2], flat.reshape(N, 2, 3)):
        taken = workflow.take_rows(X, ROWS[rows])
        np.testing.assert_array_equal(taken, X[ROWS[rows]], strict=True)
        assert taken.flags.c_contiguous
        assert taken.flags.writeable
        assert not np.shares_memory(taken, X)


def test_rows_that_are_not_there_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "LARGE", 1)
    for X in (np.zeros((N, 2)), np.zeros((0, 2))):
        with pytest.raises(IndexError):
            workflow.take_rows(X, np.array([0, len(X)]))


def taken_in_one_process(bench: Bench) -> dict[str, Any]:
    X = np.arange(workflow.LARGE // 4).reshape(-1, 2)

    def take() -> bool:
        return bool((workflow.take_rows(X, np.arange(len(X))) == X).all())

    return bench.restricted(take, processes=1)


@needs_linux
@pytest.mark.parametrize("setup", SETUPS)
def test_no_thread_is_needed(setup: str, tmp_path: Path) -> None:
    assert in_setup(setup, tmp_path, taken_in_one_process)["value"] is True
