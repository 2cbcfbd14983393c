"""Predictions of submission folds: /runapp/testpredictions/, by ids or those not delivered yet."""

from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Engine, Row, Select, bindparam, update

import schemas
from api.body import JSON, takes
from api.openapi import answers
from api.rawdata import find
from api.streams import NPZ, Delivery, stream, stream_npz
from api.submissionfold import large, select_folds
from models import FINAL_STATES, State, Submission, SubmissionFold, db

PREDICTIONS = schemas.Predictions()
MOST_IDS = 1000  # in one SQL statement

blueprint = Blueprint("testpredictions", __name__)


class Marking(Delivery):
    """Marks the folds of an answer as delivered; those that were replaced while it was written stay new."""

    def __init__(self) -> None:
        self._sent: list[dict[str, Any]] = []

    def note(self, row: Row) -> None:
        if row.state in FINAL_STATES:
            self._sent.append({"sent_id": row.databoard_sf_id, "sent_token": row.token, "sent_state": row.state})

    def complete(self, engine: Engine) -> None:
        if self._sent:
            table = SubmissionFold.__table__
            sent = (
                table.c.databoard_sf_id == bindparam("sent_id"),
                table.c.token.is_not_distinct_from(bindparam("sent_token")),
                table.c.state == bindparam("sent_state"),
            )
            with engine.begin() as connection:
                connection.execute(update(table).where(*sent).values(new=False), self._sent)


@blueprint.post("/testpredictions/list/")
@answers(schemas.Predictions, many=True, binary=NPZ)
@takes(schemas.PredictionList)
def list_predictions(data: dict[str, Any]) -> ResponseReturnValue:
    """Get the predictions of the listed folds that exist, whatever their state."""
    wanted = sorted(set(data["list_submission_fold"]))
    some = [wanted[i : i + MOST_IDS] for i in range(0, len(wanted), MOST_IDS)]
    return answer([select_predictions().where(SubmissionFold.databoard_sf_id.in_(ids)) for ids in some])


@blueprint.post("/testpredictions/new/")
@answers(schemas.Predictions, many=True, binary=NPZ)
@takes(schemas.NewPredictions)
def new_predictions(data: dict[str, Any]) -> ResponseReturnValue:
    """Get the predictions of the TESTED folds that have not been delivered yet."""
    statement = select_predictions().where(SubmissionFold.state == State.TESTED, SubmissionFold.new)
    if data["raw_data_id"] is not None:
        find(data["raw_data_id"])
        db.session.rollback()  # lets its connection go: the answer is read by another
        statement = statement.where(Submission.raw_data == data["raw_data_id"])
    return answer([statement])


def select_predictions() -> Select:
    return select_folds([*PREDICTIONS.fields, "token"])


def answer(statements: list[Select]) -> ResponseReturnValue:
    """Answer in JSON, or in a NumPy archive where the client would rather have that."""
    key, columns = SubmissionFold.databoard_sf_id, large(PREDICTIONS.fields)
    if request.accept_mimetypes.best_match([JSON, NPZ]) == NPZ:
        return stream_npz(schemas.npz_entries, statements, key, columns, Marking())
    return stream(PREDICTIONS.dump, statements, key, columns, Marking())
