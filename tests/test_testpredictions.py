"""Predictions through the API: what is delivered, and when it counts as delivered."""

import io
import json
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from posts import IRIS, NEW_FOLD, at_once, finish, pieces, set_split
from sqlalchemy import update

from api.streams import BATCH
from models import State, SubmissionFold, db, writing
from post_api import decode_predictions

LIST = "/runapp/testpredictions/list/"
NEW = "/runapp/testpredictions/new/"
UNSAID = {"train_is", "test_is", "priority", "task_id", "new", "queue_position"}


@pytest.fixture(autouse=True)
def folds(client: FlaskClient, app: Flask) -> None:
    """Folds 11 to 14, to do."""
    client.post("/runapp/rawdata/", json=IRIS)
    set_split(app, split_state=State.DONE, n_train=6, n_test=2)
    for fold_id in range(11, 15):
        client.post("/runapp/submissionfold/", json=NEW_FOLD | {"databoard_sf_id": fold_id})


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200
    return [fold["databoard_sf_id"] for fold in (answer.json() if callable(answer.json) else answer.json)]


def still_new(client: FlaskClient) -> list[int]:
    return [fold["databoard_sf_id"] for fold in client.get("/runapp/submissionfold-light/").json if fold["new"]]


def test_predictions_carry_all_attributes_but_five(client: FlaskClient, app: Flask) -> None:
    finish(app, 11)
    [fold] = client.post(LIST, json={"list_submission_fold": [11]}).json
    whole = client.get("/runapp/submissionfold/11/").json
    assert fold == {name: value for name, value in whole.items() if name not in UNSAID}
    assert fold["test_predictions"] == fold["full_train_predictions"] == "eAFjYACBC/ZgiuGFPQAMdgI3"


NPZ = {"Accept": "application/x-npz"}


def archive(answer: Any) -> dict[str, np.ndarray]:
    assert (answer.status_code, answer.content_type) == (200, "application/x-npz")
    with np.load(io.BytesIO(answer.data), allow_pickle=False) as opened:
        return dict(opened)


def test_predictions_say_their_shape_and_their_classes(client: FlaskClient, app: Flask) -> None:
    set_split(app, classes=["a", "b"])
    finish(app, 11, predictions=np.array([[0.25, 0.75], [0.5, 0.5]]))
    finish(app, 12, predictions=np.array([3.0, 4.0]))
    table, flat, waiting = client.post(LIST, json={"list_submission_fold": [11, 12, 13]}).json
    assert (table["predictions_shape"]["test_predictions"], table["classes"]) == ([2, 2], ["a", "b"])
    assert (flat["predictions_shape"]["full_train_predictions"], flat["classes"]) == ([2], None)
    assert (waiting["predictions_shape"], waiting["classes"]) == (None, None)
    shape = table["predictions_shape"]["test_predictions"]
    assert decode_predictions(table["test_predictions"], shape=shape).tolist() == [[0.25, 0.75], [0.5, 0.5]]


def test_several_targets_have_classes_each(client: FlaskClient, app: Flask) -> None:
    set_split(app, classes=[["a", "b"], [False, True]])
    finish(app, 11, predictions=np.zeros((2, 4)))
    finish(app, 12, predictions=np.zeros((2, 2)))
    columns, targets = client.post(LIST, json={"list_submission_fold": [11, 12]}).json
    assert (columns["classes"], targets["classes"]) == ([["a", "b"], [False, True]], None)


def test_an_archive_holds_the_same_as_the_json(database_url: str, client: FlaskClient, app: Flask) -> None:
    set_split(app, classes=["a", "b"])
    finish(app, 11, predictions=np.array([[0.25, 0.75]]))
    finish(app, 12, state=State.ERROR)
    wanted = {"list_submission_fold": [11, 12]}
    arrays = archive(client.post(LIST, json=wanted, headers=NPZ))
    assert sorted(arrays) == ["11/attributes", "11/full_train_predictions", "11/test_predictions", "12/attributes"]
    np.testing.assert_array_equal(arrays["11/test_predictions"], [[0.25, 0.75]])
    for fold in client.post(LIST, json=wanted).json:
        beside = {name: value for name, value in fold.items() if not name.endswith("_predictions")}
        assert json.loads(arrays[f"{fold['databoard_sf_id']}/attributes"].item()) == beside


def test_an_archive_of_new_predictions_delivers_them(client: FlaskClient, app: Flask) -> None:
    finish(app, 11, 13)
    assert {name.split("/")[0] for name in archive(client.post(NEW, headers=NPZ))} == {"11", "13"}
    assert still_new(client) == [12, 14]
    assert archive(client.post(NEW, headers=NPZ)) == {}
    assert client.post(NEW, headers={"Accept": "*/*"}).json == []


def test_listed_folds_that_exist_are_answered(database_url: str, client: FlaskClient, app: Flask) -> None:
    finish(app, 12)
    finish(app, 13, state=State.ERROR)
    finish(app, 14, state=State.TRAINED)
    answer = client.post(LIST, json={"list_submission_fold": [14, 13, 12, 12, 11, 99, 2**63 - 1]})
    assert ids(answer) == [11, 12, 13, 14]
    assert still_new(client) == [11, 14]


def test_very_many_folds_may_be_listed(database_url: str, client: FlaskClient) -> None:
    assert ids(client.post(LIST, json={"list_submission_fold": list(range(100_000))})) == [11, 12, 13, 14]


def test_predictions_with_long_logs_come_in_small_pieces(database_url: str, client: FlaskClient, app: Flask) -> None:
    with app.app_context(), writing():
        db.session.execute(update(SubmissionFold).values(log_messages="\N{REPLACEMENT CHARACTER}" * 200_000))
    answer = client.post(LIST, json={"list_submission_fold": list(range(11, 15))})
    assert max(pieces(answer)) < BATCH


@pytest.mark.parametrize(
    "form",
    [{"list_submission_fold": ["11", "12"]}, {"list_submission_fold": "[11, 12]"}, {"list_submission_fold": "11"}],
)
def test_a_list_may_come_as_a_form(client: FlaskClient, form: dict) -> None:
    assert ids(client.post(LIST, data=form))[:1] == [11]


RANGE = "is no such integer; expected one from 0 to 9223372036854775807."


@pytest.mark.parametrize(
    ("url", "body", "errors"),
    [
        (LIST, {}, {"list_submission_fold": ["This field is required."]}),
        (LIST, {"list_submission_fold": None}, {"list_submission_fold": ["This field may not be null."]}),
        (
            LIST,
            {"list_submission_fold": 3},
            {"list_submission_fold": ["3 is not a list; expected a list of integers."]},
        ),
        (LIST, {"list_submission_fold": [1, "2"]}, {"list_submission_fold": [f'"2" {RANGE}']}),
        (LIST, {"list_submission_fold": [], "x": 1}, {"x": ["Unknown field; expected some of list_submission_fold."]}),
        (NEW, {"raw_data_id": 7}, {"raw_data_id": ["There is no raw data 7; expected the id of a data set."]}),
        (NEW, {"raw_data_id": "1"}, {"raw_data_id": [f'"1" {RANGE}']}),
        (NEW, {"raw_data": 1}, {"raw_data": ["Unknown field; expected some of raw_data_id."]}),
    ],
)
def test_a_wrong_request_is_refused(client: FlaskClient, app: Flask, url: str, body: dict, errors: dict) -> None:
    finish(app, 11)
    answer = client.post(url, json=body)
    assert (answer.status_code, answer.json) == (400, errors)
    assert still_new(client) == [11, 12, 13, 14]


@pytest.mark.parametrize(
    "request_body",
    [{}, {"json": {}}, {"json": {"raw_data_id": None}}, {"json": {"raw_data_id": 1}}, {"data": {"raw_data_id": "1"}}],
)
def test_new_predictions_are_delivered_once(
    database_url: str, client: FlaskClient, app: Flask, request_body: dict
) -> None:
    finish(app, 11, 13)
    finish(app, 12, state=State.ERROR)
    assert ids(client.post(NEW, **request_body)) == [11, 13]
    assert ids(client.post(NEW, **request_body)) == []
    finish(app, 14)
    assert ids(client.post(NEW, **request_body)) == [14]
    assert still_new(client) == [12]


def test_new_predictions_may_be_asked_for_one_data_set(client: FlaskClient, app: Flask) -> None:
    client.post("/runapp/rawdata/", json=IRIS | {"name": "other"})
    finish(app, 11)
    assert ids(client.post(NEW, json={"raw_data_id": 2})) == []
    assert ids(client.post(NEW, json={"raw_data_id": 1})) == [11]


def test_a_fold_replaced_while_it_is_sent_stays_new(
    database_url: str, client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.streams.BATCH", 1)
    finish(app, 11, 12)
    answer = client.post(NEW)
    texts = answer.iter_encoded()
    next(texts)
    client.post("/runapp/submissionfold/", json=NEW_FOLD | {"force": "submission_fold"})
    assert b"".join(texts).endswith(b"]\n")
    assert still_new(client) == [11, 13, 14]


def test_a_fold_replaced_and_tested_again_while_it_is_sent_stays_new(
    database_url: str, client: FlaskClient, app: Flask
) -> None:
    finish(app, 11)
    answer = client.post(NEW)
    texts = answer.iter_encoded()
    next(texts)
    with app.app_context():
        db.session.get_one(SubmissionFold, 11).token = "another execution's"
        db.session.commit()
    assert list(texts) == [b"]\n"]
    assert ids(client.post(NEW)) == [11]
    assert ids(client.post(NEW)) == []


def test_an_answer_that_is_not_read_to_its_end_is_not_delivered(client: FlaskClient, app: Flask) -> None:
    finish(app, 11)
    answer = client.post(NEW)
    next(answer.iter_encoded())
    answer.close()
    assert ids(client.post(NEW)) == [11]


def test_pollers_at_once_lose_nothing(database_url: str, client: FlaskClient, app: Flask) -> None:
    finish(app, 11, 12, 13)
    polls = at_once(app, client, [lambda own: own.post(NEW, buffered=True)] * 4)
    assert {fold_id for poll in polls for fold_id in ids(poll)} == {11, 12, 13}
    assert ids(client.post(NEW)) == []
