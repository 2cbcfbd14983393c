"""Databases with many folds, written straight into their tables: posting a hundred thousand would take minutes."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
from flask import Flask
from sqlalchemy import Connection, insert

import jobs
from app import create_app
from config import Config
from models import FoldIndices, FoldPredictions, RawData, State, Submission, SubmissionFold, db

FIRST_ID = 1_000_000  # of folds and submissions written here; what a benchmark posts counts from 1
RAW_DATA = 1_000_000
FOLDS_OF_A_SUBMISSION = 5
BATCH = 1000  # rows of one statement
N_TRAIN, N_TEST, N_CLASSES = 120, 30, 3  # as iris has
IRIS_SIZE = (N_TRAIN + N_TEST) * N_CLASSES * 8  # bytes of a fold's predictions


@contextmanager
def opened(config: Config) -> Iterator[Flask]:
    """Give an app of this process on the service's database; its connections are closed at the end."""
    app = create_app(config)
    with app.app_context():
        try:
            yield app
        finally:
            db.session.remove()
            db.engine.dispose()


def fill(config: Config, final: int = 0, waiting: int = 0, undelivered: int = 0, size: int = IRIS_SIZE) -> None:
    """Add folds of an invented data set to a database that has its tables; the counts are multiples of 5.

    final : folds in TESTED, delivered, with the predictions of a small data set.
    waiting : folds in TODO, of low priority, in the queue.
    undelivered : folds in TESTED, not delivered, whose predictions have `size` bytes and hardly compress.
    """
    with opened(config):
        first = FIRST_ID
        with db.engine.begin() as connection:
            add_data(connection, (final + waiting + undelivered) // FOLDS_OF_A_SUBMISSION)
            add_folds(connection, range(first, first := first + final), State.TESTED, False, IRIS_SIZE)
            add_folds(connection, range(first, first := first + undelivered), State.TESTED, True, size)
            added = range(first, first + waiting)
            task_ids = add_folds(connection, added, State.TODO, True, 0)
        jobs.enqueue_all(
            jobs.fold_job(fold_id, task_id, "L", submission_of(fold_id), "invented", None)
            for fold_id, task_id in zip(added, task_ids, strict=True)
        )


def submission_of(fold_id: int) -> int:
    return FIRST_ID + (fold_id - FIRST_ID) // FOLDS_OF_A_SUBMISSION


def add_data(connection: Connection, submissions: int) -> None:
    row = {
        "id": RAW_DATA, "name": "invented", "files_path": "invented", "target_column": "target",
        "workflow_elements": "classifier", "held_out_test": 0.2, "random_state": 42, "split_state": State.DONE,
        "n_train": N_TRAIN, "n_test": N_TEST, "classes": list(range(N_CLASSES)),
    }  # fmt: skip
    connection.execute(insert(RawData).values(row))
    some = range(FIRST_ID, FIRST_ID + submissions)
    rows = [{"databoard_s_id": i, "files_path": "invented", "raw_data": RAW_DATA} for i in some]
    if rows:
        connection.execute(insert(Submission), rows)


def add_folds(connection: Connection, fold_ids: range, state: State, new: bool, size: int) -> list[str]:
    """Add folds, all with the same indices and, where `size` is not 0, predictions; return their task ids."""
    indices = {name: pack(np.arange(*rows)) for name, rows in (("train_is", (0, 96)), ("test_is", (96, N_TRAIN)))}
    probabilities = np.random.default_rng(0).random((size // 8 // N_CLASSES, N_CLASSES))
    parts = np.split(probabilities, [len(probabilities) * 4 // 5])
    arrays = dict(zip(("full_train_predictions", "test_predictions"), parts, strict=True))
    predictions = {name: pack(array) for name, array in arrays.items()}
    predictions["predictions_shape"] = {name: array.shape for name, array in arrays.items()}
    task_ids = [str(uuid4()) for _ in fold_ids]
    same = {"state": state, "new": new, "queued_at": datetime.now(UTC)}
    for start in range(0, len(fold_ids), BATCH):
        batch = list(zip(fold_ids[start : start + BATCH], task_ids[start : start + BATCH], strict=True))
        folds = [
            {"databoard_sf_id": fold_id, "databoard_s": submission_of(fold_id), "task_id": task_id, **same}
            for fold_id, task_id in batch
        ]
        connection.execute(insert(SubmissionFold), folds)
        connection.execute(insert(FoldIndices), [{"databoard_sf_id": fold_id, **indices} for fold_id, _ in batch])
        if size:
            rows = [{"databoard_sf_id": fold_id, **predictions} for fold_id, _ in batch]
            connection.execute(insert(FoldPredictions), rows)
    return task_ids


def pack(numbers: np.ndarray) -> bytes:
    return zlib.compress(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes(), level=1)
