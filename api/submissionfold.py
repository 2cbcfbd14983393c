"""Submissions on cross-validation folds: /runapp/submissionfold/."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import numpy as np
from flask import Blueprint, abort, g
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, Row, Select, bindparam, case, func, select, tuple_, update
from sqlalchemy.orm import aliased

import jobs
import schemas
from api.body import takes
from api.errors import after_races, refuse
from api.openapi import answers
from api.streams import stream
from api.submission import SubmissionChange, remove_folds
from api.uploads import Uploads
from models import (
    UNSYNCHRONIZED,
    FoldIndices,
    FoldPredictions,
    RawData,
    State,
    Submission,
    SubmissionFold,
    db,
    not_final,
    writing,
)

ELSEWHERE = {
    "train_is": FoldIndices.train_is,
    "test_is": FoldIndices.test_is,
    "full_train_predictions": FoldPredictions.full_train_predictions,
    "test_predictions": FoldPredictions.test_predictions,
    "predictions_shape": FoldPredictions.predictions_shape,
    "classes": case((FoldPredictions.databoard_sf_id.is_not(None), RawData.classes)).label("classes"),
}
LARGE = ("train_is", "test_is", "full_train_predictions", "test_predictions", "classes", "log_messages")

FOLD = schemas.SubmissionFold()
ONE = "/submissionfold/<int:databoard_sf_id>/"

blueprint = Blueprint("submissionfold", __name__)


def attribute(name: str) -> ColumnElement:
    """Return the column of a fold's attribute; those in ELSEWHERE stand in other tables."""
    return ELSEWHERE[name] if name in ELSEWHERE else getattr(SubmissionFold, name)


def large(names: Iterable[str]) -> list[ColumnElement]:
    """Return the columns of those attributes of which a list may hold many MBs."""
    return [attribute(name) for name in names if name in LARGE]


def select_folds(names: Iterable[str]) -> Select:
    """Select the attributes of folds."""
    folds = select(*map(attribute, names)).select_from(SubmissionFold).join(FoldIndices).outerjoin(FoldPredictions)
    return folds.join(Submission, SubmissionFold.submission).join(RawData)


@blueprint.get("/submissionfold/")
@answers(schemas.SubmissionFold, many=True)
def list_submission_folds() -> ResponseReturnValue:
    """List all submission folds, with all attributes."""
    return stream(FOLD.dump, [select_folds(FOLD.fields)], SubmissionFold.databoard_sf_id, large(FOLD.fields))


@blueprint.get("/submissionfold-light/")
@answers(schemas.SubmissionFoldLight, many=True)
def list_submission_folds_light() -> ResponseReturnValue:
    """List the ids, submissions and states of all submission folds, and whether they are new."""
    names = list(schemas.SubmissionFoldLight().fields)
    statement = select(*(getattr(SubmissionFold, name) for name in names))
    return stream(lambda row: dict(zip(names, row, strict=True)), [statement], SubmissionFold.databoard_sf_id)


@blueprint.get(ONE)
@answers(schemas.OneSubmissionFold)
def get_submission_fold(databoard_sf_id: int) -> ResponseReturnValue:
    """Get a submission fold, with all attributes and its position in the queue."""
    return dump_one(databoard_sf_id)


@blueprint.delete(ONE)
@answers(None, 204)
def delete_submission_fold(databoard_sf_id: int) -> ResponseReturnValue:
    """Remove a submission fold, stopped where it runs; its submission stays, even without folds."""
    with writing():
        removed = remove_folds(SubmissionFold.databoard_sf_id == databoard_sf_id)
    jobs.stop_tasks(removed)
    return ("", 204) if removed else not_found(databoard_sf_id)


@blueprint.post(f"{ONE}cancel/")
@answers(schemas.OneSubmissionFold)
def cancel_submission_fold(databoard_sf_id: int) -> ResponseReturnValue:
    """Stop a submission fold, which ends in ERROR as cancelled; one that has ended stays as it is."""
    to_end = SubmissionFold.databoard_sf_id == databoard_sf_id, not_final(SubmissionFold)
    end = update(SubmissionFold).where(*to_end).values(SubmissionFold.cancelled())
    with writing():
        cancelled = db.session.scalars(end.returning(SubmissionFold.task_id), execution_options=UNSYNCHRONIZED).all()
    jobs.stop_tasks(cancelled)
    return dump_one(databoard_sf_id)


@blueprint.post("/submissionfold/")
@answers(schemas.SubmissionFold, 201)
@takes(schemas.NewSubmissionFold)
def post_submission_fold(data: dict[str, Any]) -> ResponseReturnValue:
    """Create a submission fold, and its submission if that is new."""
    g.about = f"fold {data['databoard_sf_id']}"
    opened = data.pop("files")
    uploads = Uploads(opened) if opened else None
    packed = {name: schemas.pack_indices(data[name]) for name in ("train_is", "test_is")}
    with uploads.stored_ahead() if uploads else nullcontext():
        made = create(uploads, packed, **data)
    jobs.stop_tasks(made.stopped)
    if made.runs_now:
        jobs.enqueue(made.fold)
    return made.answer, 201


@dataclass(frozen=True)
class Made:
    """What a POST has committed."""

    fold: SubmissionFold
    answer: dict[str, Any]
    runs_now: bool  # otherwise it waits for its data's split
    stopped: Sequence[str | None]  # jobs of the folds that it replaced


@after_races
def create(
    uploads: Uploads | None,
    packed: dict[str, bytes],
    databoard_sf_id: int,
    databoard_s_id: int,
    train_is: np.ndarray,
    test_is: np.ndarray,
    priority: str,
    raw_data: int | None,
    force: str | None,
) -> Made:
    """Commit the fold, whatever `force` allows it to replace being replaced."""
    with writing():
        change = SubmissionChange(databoard_s_id, raw_data, uploads, forced=force == "submission, submission_fold")
        known = db.session.scalar(select(SubmissionFold.databoard_s).filter_by(databoard_sf_id=databoard_sf_id))
        if known is not None and not force:
            refuse("databoard_sf_id", "SubmissionFold with this databoard_sf_id already exists.")
        if known not in (None, databoard_s_id):
            other = f"Submission fold {databoard_sf_id} is one of submission {known}"
            refuse("databoard_s_id", f"{other}; expected that submission, or another databoard_sf_id.")
        check_split(change.data, train_is, test_is)
        stopped = change.apply(None if known is None else databoard_sf_id)
        fold = SubmissionFold(databoard_sf_id=databoard_sf_id, databoard_s=databoard_s_id, priority=priority)
        fold.begin_anew()
        fold.indices = FoldIndices(**packed)
        db.session.add(fold)
        db.session.flush()
        fold.submission.raw_data_row  # noqa: B018 loaded for the job's description
        return Made(fold, FOLD.dump(find_row(databoard_sf_id)), change.data.split_state == State.DONE, stopped)


def find_row(databoard_sf_id: int) -> Row | None:
    return db.session.execute(one_fold(), {"fold_id": databoard_sf_id}).one_or_none()


def dump_one(databoard_sf_id: int) -> dict[str, Any]:
    row = find_row(databoard_sf_id) or not_found(databoard_sf_id)
    position = db.session.scalar(position_of_one(), {"fold_id": databoard_sf_id}) if row.state == State.TODO else None
    return FOLD.dump(row) | {"queue_position": position}


def not_found(databoard_sf_id: int) -> NoReturn:
    abort(404, f"There is no submission fold {databoard_sf_id}.")


@cache  # clients poll single folds: to build these statements again would take longer than to run them
def one_fold() -> Select:
    return select_folds(FOLD.fields).where(SubmissionFold.databoard_sf_id == bindparam("fold_id"))


@cache
def position_of_one() -> Select:
    """Select how many waiting folds come before the one of `fold_id`; nothing where it does not wait for a worker."""
    fold, other = SubmissionFold, aliased(SubmissionFold)
    before = tuple_(*queue_order(other)) < tuple_(*queue_order(fold))
    count = select(func.count()).select_from(other).where(*waits(other), before).scalar_subquery()
    return select(count).where(fold.databoard_sf_id == bindparam("fold_id"), *waits(fold))


def queue_order(fold: type[SubmissionFold]) -> tuple[ColumnElement, ...]:
    return fold.priority, fold.queued_at, fold.databoard_sf_id


def waits(fold: type[SubmissionFold]) -> tuple[ColumnElement[bool], ...]:
    """The conditions on a fold that can be run, and that no worker has claimed yet."""
    split = select(Submission.databoard_s_id).join(RawData).where(RawData.split_state == State.DONE)
    return fold.state == State.TODO, fold.token.is_(None), fold.databoard_s.in_(split)


def check_split(data: RawData, train_is: np.ndarray, test_is: np.ndarray) -> None:
    """Refuse a fold of data that has no split, and rows that the training part, if it is known, does not have."""
    if data.split_state is None:
        refuse("raw_data", f"Raw data {data.id} was never split; expected /runapp/rawdata/split/ before its folds.")
    if data.split_state == State.ERROR:
        why = (data.log_messages or "").strip().rpartition("\n")[2]
        what = f"The split of raw data {data.id} ended in ERROR ({schemas.shown(why)})"
        refuse("raw_data", f"{what}; expected a split that succeeded.")
    if data.split_state == State.DONE:
        for name, rows in (("train_is", train_is), ("test_is", test_is)):
            if (wrong := rows[rows >= data.n_train]).size:
                what = schemas.counted(wrong.size, "out of range")
                refuse(name, f"{what}; the first is {wrong[0]}. Expected rows from 0 to {data.n_train - 1}.")
