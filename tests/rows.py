"""Rows as the API leaves them, for tests that need no request: iris, submissions from `tests/submissions`, folds."""

import io
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sklearn.datasets import load_iris

import files
import revision
from models import (
    FoldIndices,
    RawData,
    RawDataFile,
    State,
    Submission,
    SubmissionFile,
    SubmissionFold,
    db,
    writing,
)

SUBMISSIONS = Path(__file__).parent / "submissions"
_ids = count(1000)  # for those that a test does not name
TRAIN_IS, TEST_IS = range(0, 90), range(90, 120)  # of the 120 training rows that a held out fifth of iris leaves


def create_tables() -> None:
    """Make the tables of the present app's database, as `flask db upgrade` leaves them."""
    db.create_all()
    with db.engine.begin() as connection:
        MigrationContext.configure(connection).stamp(ScriptDirectory(revision.MIGRATIONS), "head")


def content(data: bytes) -> str:
    """Store a content; return its hash."""
    return files.store(io.BytesIO(data), db.session)


def iris_csv() -> bytes:
    frame = load_iris(as_frame=True).frame
    frame["target"] = load_iris().target_names[frame["target"]]
    return frame.to_csv(index=False).encode()


def raw_data(name: str = "", csv: bytes | None = None, **columns: Any) -> RawData:
    """Commit a data set that is to be split; without a name, it gets one of its own."""
    name = name or f"iris_{next(_ids)}"
    row = RawData(
        name=name,
        files_path=f"raw_data/{name}",
        target_column="target",
        workflow_elements="classifier",
        held_out_test=0.2,
        random_state=42,
        split_state=State.TODO,
        **execution(),
    )
    for column, value in columns.items():
        setattr(row, column, value)
    with writing():
        row.files.append(RawDataFile(name=f"{name}.csv", sha256=content(csv or iris_csv())))
        db.session.add(row)
    return row


def split_raw_data(name: str = "", n_train: int = 120) -> RawData:
    """Commit a data set that claims to be split, without its contents: for what runs no fold."""
    return raw_data(name, b"-", split_state=State.DONE, n_train=n_train, n_test=30)


def submission(data: RawData, kind: str = "logistic_regression", submission_id: int = 0) -> Submission:
    """Commit a submission with the files of `tests/submissions/<kind>`."""
    submission_id = submission_id or next(_ids)
    with writing():
        row = Submission(databoard_s_id=submission_id, files_path=f"submissions/{submission_id}", raw_data=data.id)
        for path in sorted((SUBMISSIONS / kind).iterdir()):
            if path.is_file():
                row.files.append(SubmissionFile(name=path.name, sha256=content(path.read_bytes())))
        db.session.add(row)
    return row


def fold(
    of: Submission,
    fold_id: int = 0,
    train_is: Sequence[int] = TRAIN_IS,
    test_is: Sequence[int] = TEST_IS,
    **columns: Any,
) -> SubmissionFold:
    """Commit a fold in state TODO, not enqueued."""
    with writing():
        row = _new_fold(of, fold_id or next(_ids), train_is, test_is, **columns)
        db.session.add(row)
    return row


def folds(of: Submission, n: int) -> list[SubmissionFold]:
    """Commit so many at once."""
    with writing():
        new = [_new_fold(of, next(_ids), TRAIN_IS, TEST_IS) for _ in range(n)]
        db.session.add_all(new)
    return new


def _new_fold(
    of: Submission, fold_id: int, train_is: Sequence[int], test_is: Sequence[int], **columns: Any
) -> SubmissionFold:
    packed = (zlib.compress(np.asarray(rows, dtype="<i8").tobytes()) for rows in (train_is, test_is))
    row = SubmissionFold(databoard_sf_id=fold_id, databoard_s=of.databoard_s_id, **execution())
    for column, value in columns.items():
        setattr(row, column, value)
    row.indices = FoldIndices(**dict(zip(("train_is", "test_is"), packed, strict=True)))
    return row


def execution() -> dict[str, Any]:
    return {"task_id": str(uuid4()), "queued_at": datetime.now(UTC)}
