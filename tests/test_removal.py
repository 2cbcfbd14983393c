"""Folds and data sets removed, folds cancelled: what is left, and who wins at the same instant. No worker is needed."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from posts import IRIS, NEW_FOLD, at_once, counts, finish, set_split
from sqlalchemy import func, select

import recording
from models import Chunk, Content, FoldIndices, FoldPredictions, RawData, State, SubmissionFold, db

DATA = "/runapp/rawdata/"
FOLDS = "/runapp/submissionfold/"
NOTHING = {"RawData": 0, "RawDataFile": 0, "Submission": 0, "SubmissionFold": 0, "Content": 0}


@pytest.fixture(autouse=True)
def folds(client: FlaskClient, app: Flask) -> None:
    """Folds 11 and 12 of submission 24, and 13 of 25, whose files are the same; to do."""
    client.post(DATA, json=IRIS)
    set_split(app, split_state=State.DONE, n_train=6, n_test=2)
    for fold_id, submission_id in ((11, 24), (12, 24), (13, 25)):
        client.post(FOLDS, json=NEW_FOLD | {"databoard_sf_id": fold_id, "databoard_s_id": submission_id})


def rows_of(app: Flask, queue: redis.Redis) -> dict[str, int]:
    return {name: n for name, n in counts(app, queue).items() if name in NOTHING}


def change(app: Flask, fold_id: int, **columns: Any) -> None:
    """Change a fold as its job would."""
    with app.app_context():
        for name, value in columns.items():
            setattr(db.session.get_one(SubmissionFold, fold_id), name, value)
        db.session.commit()


# ---- a fold removed


def test_a_removed_fold_is_gone_with_all_that_is_of_it(database_url: str, client: FlaskClient, app: Flask) -> None:
    finish(app, 11, 12)
    answer = client.delete(f"{FOLDS}11/")
    assert (answer.status_code, answer.data) == (204, b"")
    assert client.get(f"{FOLDS}11/").status_code == 404
    with app.app_context():
        for table in (FoldIndices, FoldPredictions):
            assert not db.session.scalars(select(table).filter_by(databoard_sf_id=11)).all()
    assert [fold["databoard_sf_id"] for fold in client.get(FOLDS).json] == [12, 13]


def test_a_fold_that_does_not_exist_is_not_removed_or_cancelled(client: FlaskClient) -> None:
    for answer in (client.delete(f"{FOLDS}99/"), client.post(f"{FOLDS}99/cancel/")):
        assert (answer.status_code, answer.json) == (404, {"detail": "There is no submission fold 99."})


@pytest.mark.parametrize("row_id", [2**31, 2**63 - 1, 2**63])
def test_ids_that_no_row_has_are_not_found(database_url: str, client: FlaskClient, row_id: int) -> None:
    for url in (f"{FOLDS}{row_id}/", f"{DATA}{row_id}/"):
        assert client.delete(url).status_code == 404
    assert client.post(f"{FOLDS}{row_id}/cancel/").status_code == 404
    assert client.post(f"{DATA}split/", json={"raw_data_id": row_id, "held_out_test": 0.5}).status_code == 400


def test_a_submission_without_folds_takes_another_without_files(
    client: FlaskClient, app: Flask, queue: redis.Redis
) -> None:
    client.delete(f"{FOLDS}13/")
    assert rows_of(app, queue)["Submission"] == 2
    again = {"databoard_sf_id": 13, "databoard_s_id": 25, "train_is": [0], "test_is": []}
    assert client.post(FOLDS, json=again).status_code == 201


# ---- a fold cancelled


def test_a_cancelled_fold_ends_in_error(database_url: str, client: FlaskClient, app: Flask) -> None:
    answer = client.post(f"{FOLDS}11/cancel/")
    assert answer.status_code == 200
    fold = answer.json
    assert (fold["state"], fold["cause"], fold["queue_position"]) == ("ERROR", "cancelled", None)
    assert fold["log_messages"] == "Cancelled on request."
    assert fold["ended_at"] >= fold["queued_at"]
    assert client.get(f"{FOLDS}11/").json == fold
    assert client.get(f"{FOLDS}12/").json["state"] == "TODO"


@pytest.mark.parametrize("log", ["Attempt 1 ended.\nepoch 1", "Attempt 1 ended.\nepoch 1\n\n"])
@pytest.mark.parametrize("state", [State.TODO, State.TRAINED, State.VALIDATED])
def test_a_running_fold_that_is_cancelled_keeps_its_log(client: FlaskClient, app: Flask, state: str, log: str) -> None:
    change(app, 11, state=state, token="a worker's", log_messages=log, train_time=1.5)
    fold = client.post(f"{FOLDS}11/cancel/").json
    assert (fold["state"], fold["cause"], fold["train_time"]) == ("ERROR", "cancelled", 1.5)
    assert fold["log_messages"] == "Attempt 1 ended.\nepoch 1\nCancelled on request."


@pytest.mark.parametrize("state", [State.TESTED, State.ERROR])
def test_a_final_fold_that_is_cancelled_stays_as_it_is(client: FlaskClient, app: Flask, state: State) -> None:
    finish(app, 11, state=state)
    before = client.get(f"{FOLDS}11/").json
    answer = client.post(f"{FOLDS}11/cancel/")
    assert (answer.status_code, answer.json) == (200, before)


def test_a_fold_is_cancelled_and_removed_without_a_queue(client: FlaskClient, app: Flask) -> None:
    app.extensions["datarun_queue"] = redis.Redis(port=1)
    assert client.post(f"{FOLDS}11/cancel/").json["cause"] == "cancelled"
    assert client.delete(f"{FOLDS}11/").status_code == 204


def together(app: Flask, first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Call both at the same instant, each in a thread and an app context of its own; return what they return."""
    barrier, results = threading.Barrier(2), [None, None]

    def call(i: int, function: Callable[[], Any]) -> None:
        with app.app_context():
            barrier.wait()
            results[i] = function()

    threads = [threading.Thread(target=call, args=both) for both in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tuple(results)


PREDICTIONS = {
    "predictions_shape": {"full_train_predictions": [1], "test_predictions": [1]},
    "full_train_predictions": b"x",
    "test_predictions": b"x",
}


@pytest.mark.parametrize("ends", ["cancel/", ""])
def test_a_fold_that_ends_while_it_is_cancelled_or_removed_has_one_end(
    database_url: str, client: FlaskClient, app: Flask, ends: str
) -> None:
    for fold_id in range(20, 30):
        fold = client.post(FOLDS, json=NEW_FOLD | {"databoard_sf_id": fold_id}).json
        with app.app_context():
            claim = recording.claim(SubmissionFold, fold_id, fold["task_id"], 3)
        own = app.test_client()
        own.environ_base.update(client.environ_base)
        written, answer = together(
            app,
            lambda claim=claim: claim.finish_fold(PREDICTIONS, state=State.TESTED, log_messages="done"),
            lambda own=own, i=fold_id: own.open(f"{FOLDS}{i}/{ends}", method="POST" if ends else "DELETE"),
        )
        if ends:
            assert answer.status_code == 200
            assert answer.json["state"] == ("TESTED" if written else "ERROR")
            assert client.get(f"{FOLDS}{fold_id}/").json == answer.json
        else:
            assert answer.status_code == 204
        with app.app_context():
            there = db.session.get(FoldPredictions, fold_id) is not None
            assert there == bool(ends and written)


# ---- a data set removed


def test_a_data_set_with_submissions_is_not_removed(client: FlaskClient, app: Flask, queue: redis.Redis) -> None:
    before = counts(app, queue)
    answer = client.delete(f"{DATA}1/")
    sentence = "Raw data 1 has 2 submissions; expected none, or force=true, which removes submissions and folds too."
    assert (answer.status_code, answer.json) == (400, {"raw_data_id": [sentence]})
    assert counts(app, queue) == before


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ("force=1", {"force": ['"1" is not a boolean; expected true or false.']}),
        ("force=true&force=true", {"force": ["This field came 2 times; expected it once."]}),
        ("forced=true", {"forced": ["Unknown field; expected some of force."]}),
    ],
)
def test_a_wrong_query_is_refused(client: FlaskClient, query: str, errors: dict) -> None:
    answer = client.delete(f"{DATA}1/?{query}")
    assert (answer.status_code, answer.json) == (400, errors)


def test_a_data_set_that_does_not_exist_is_not_removed(client: FlaskClient) -> None:
    answer = client.delete(f"{DATA}7/")
    assert (answer.status_code, answer.json) == (404, {"detail": "There is no raw data 7."})


def test_a_data_set_without_submissions_is_removed_with_its_files(
    database_url: str, client: FlaskClient, app: Flask, queue: redis.Redis
) -> None:
    before = rows_of(app, queue)
    other = IRIS | {"name": "other", "files": {"other.csv": IRIS["files"]["iris.csv"] + "5,a\n"}}
    assert client.post(DATA, json=other).json["id"] == 2
    assert client.delete(f"{DATA}2/").status_code == 204
    assert rows_of(app, queue) == before
    assert client.post(DATA, json=other).json["id"] == 3


def test_a_data_set_is_removed_by_force_with_submissions_and_folds(
    database_url: str, client: FlaskClient, app: Flask, queue: redis.Redis
) -> None:
    finish(app, 11)
    with app.app_context():
        for name in ("split_is", "y_train", "X_train", "X_test"):
            sha256 = name.ljust(64, "-")
            db.session.add(Content(sha256=sha256, size=1, chunks=[Chunk(position=0, data=b"1")]))
            db.session.flush()
            setattr(db.session.get_one(RawData, 1), name, sha256)
        db.session.commit()
    assert client.delete(f"{DATA}1/?force=true").status_code == 204
    assert rows_of(app, queue) == NOTHING
    with app.app_context():
        for table in (Chunk, FoldIndices, FoldPredictions):
            assert db.session.scalar(select(func.count()).select_from(table)) == 0


def test_a_content_that_another_data_set_has_stays(client: FlaskClient) -> None:
    client.post(DATA, json=IRIS | {"name": "other"})
    assert client.delete(f"{DATA}1/?force=true").status_code == 204
    assert client.post(DATA + "split/", json={"raw_data_id": 2, "held_out_test": 0.5}).status_code == 200  # reads it


def test_a_data_set_removed_while_its_files_are_posted_again(
    database_url: str, client: FlaskClient, app: Flask, queue: redis.Redis
) -> None:
    """Whoever comes first, the contents of what is there are there, and no other."""
    for turn in range(2, 8):
        deletion, post = at_once(
            app,
            client,
            [
                lambda own, turn=turn: own.delete(f"{DATA}{turn - 1}/?force=true"),
                lambda own, turn=turn: own.post(DATA, json=IRIS | {"name": f"iris {turn}"}),
            ],
        )
        assert (deletion.status_code, post.status_code, post.json["id"]) == (204, 201, turn)
        answer = client.post(DATA + "split/", json={"raw_data_id": turn, "held_out_test": 0.5})
        assert answer.status_code == 200  # the CSV can be read
        assert rows_of(app, queue) == NOTHING | {"RawData": 1, "RawDataFile": 1, "Content": 1}


def test_folds_posted_while_their_data_set_is_removed_are_taken_or_refused(
    database_url: str, client: FlaskClient, app: Flask, queue: redis.Redis
) -> None:
    posts = [
        lambda own, i=i: own.post(FOLDS, json=NEW_FOLD | {"databoard_sf_id": i, "databoard_s_id": i % 2 + 24})
        for i in range(20, 24)
    ]
    deletion, *answers = at_once(app, client, [lambda own: own.delete(f"{DATA}1/?force=true"), *posts])
    assert deletion.status_code == 204
    gone = {"raw_data": ["There is no raw data 1; expected the id of a data set."]}
    assert all(answer.status_code == 201 or answer.json == gone for answer in answers)
    assert rows_of(app, queue) == NOTHING
