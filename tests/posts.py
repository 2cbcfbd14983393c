"""What the API's tests post, and how they look at and change what is behind it."""

import base64
import threading
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import redis
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from models import Content, FoldPredictions, RawData, RawDataFile, State, Submission, SubmissionFold, db, writing
from schemas import pack_predictions

CSV = "width,species\n1,a\n2,b\n3,a\n4,b\n"
IRIS = {
    "name": "iris",
    "target_column": "species",
    "workflow_elements": "feature_extractor, classifier",
    "files": {"iris.csv": CSV},
}
SUBMISSION = {"classifier.py": "class Classifier: ...", "feature_extractor.py": "class FeatureExtractor: ..."}
NEW_FOLD = {
    "databoard_sf_id": 11,
    "databoard_s_id": 24,
    "train_is": [0, 1],
    "test_is": [2],
    "raw_data": 1,
    "files": SUBMISSION,
}


def encode(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def encode_indices(*indices: int) -> str:
    return encode(np.array(indices, "<i8").tobytes())


def counts(app: Flask, queue: redis.Redis) -> dict[str, int]:
    """Return how many rows and jobs there are of each kind."""
    with app.app_context():
        tables = (RawData, RawDataFile, Submission, SubmissionFold, Content)
        rows = {table.__name__: db.session.scalar(select(func.count()).select_from(table)) for table in tables}
    return rows | {name: queue.llen(f"rq:queue:{name}") for name in ("high", "low")}


def set_split(app: Flask, raw_data_id: int = 1, **columns: Any) -> None:
    """Change a data set as its split's job would."""
    with app.app_context(), writing():
        for name, value in columns.items():
            setattr(db.session.get_one(RawData, raw_data_id), name, value)


def finish(app: Flask, *fold_ids: int, state: State = State.TESTED, predictions: np.ndarray | None = None) -> None:
    """Change folds as their jobs would."""
    predictions = np.array([0.25, 0.75]) if predictions is None else predictions
    columns = dict.fromkeys(("full_train_predictions", "test_predictions"), pack_predictions(predictions))
    columns["predictions_shape"] = dict.fromkeys(columns, predictions.shape)
    with app.app_context(), writing():
        for fold_id in fold_ids:
            fold = db.session.get_one(SubmissionFold, fold_id)
            fold.state, fold.token, fold.attempts, fold.train_time = state, f"token of {fold_id}", 1, 1.5
            if state == State.TESTED:
                fold.predictions = FoldPredictions(**columns)


def pieces(answer: TestResponse) -> list[int]:
    """Return the sizes of the pieces in which an answer comes, which are all that is in memory of it."""
    assert answer.status_code == 200
    return [len(piece) for piece in answer.iter_encoded()]


def at_once(app: Flask, client: FlaskClient, requests: Iterable[Callable[[FlaskClient], Any]]) -> list[TestResponse]:
    """Send requests at the same instant, each from a thread of its own; return the answers in their order."""
    requests = list(requests)
    barrier = threading.Barrier(len(requests))
    answers: list[Any] = [None] * len(requests)

    def send(i: int) -> None:
        own = app.test_client()
        own.environ_base.update(client.environ_base)
        barrier.wait()
        answers[i] = requests[i](own)

    threads = [threading.Thread(target=send, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
