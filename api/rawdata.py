"""Data sets: /runapp/rawdata/, and their splits."""

from typing import Any, BinaryIO
from uuid import uuid4

from flask import Blueprint, abort, g
from flask.typing import ResponseReturnValue
from sqlalchemy import Select, delete, func, select, update

import files
import jobs
import schemas
from api.body import takes, takes_query
from api.csv_file import TABLES, BadCSV, is_python, judge, separator, too_few_rows
from api.errors import after_races, refuse
from api.openapi import answers
from api.streams import stream
from api.submission import remove_folds
from api.uploads import Uploads
from api.workflow import names_fault, workflow_fault
from models import (
    UNSYNCHRONIZED,
    FoldPredictions,
    RawData,
    RawDataFile,
    State,
    Submission,
    SubmissionFile,
    SubmissionFold,
    db,
    writing,
)

MADE_BY_SPLIT = ("split_is", "y_train", "X_train", "X_test")  # columns that name contents
SHOWN_COLUMNS = 20

blueprint = Blueprint("rawdata", __name__)


@blueprint.get("/rawdata/")
@answers(schemas.RawData, many=True)
def list_raw_data() -> ResponseReturnValue:
    """List all raw data."""
    columns = [getattr(RawData, name) for name in schemas.RawData().fields]
    texts = [RawData.target_column, RawData.workflow_elements, RawData.log_messages]
    return stream(schemas.RawData().dump, [select(*columns)], RawData.id, texts)


@blueprint.post("/rawdata/")
@answers(schemas.RawData, 201)
@takes(schemas.NewRawData)
def post_raw_data(data: dict[str, Any]) -> ResponseReturnValue:
    """Create a data set."""
    own = any(map(is_python, data["files"]))  # its functions may train and test, whatever a submission's files are
    if fault := (names_fault if own else workflow_fault)(data["workflow_elements"]):
        refuse("workflow_elements", fault)
    check_files(data["files"], data["target_column"])
    check_name(data["name"])
    uploads = Uploads(data.pop("files"))
    with uploads.stored_ahead():
        return schemas.RawData().dump(create(uploads, **data)), 201


def check_name(name: str) -> None:
    if db.session.scalar(select(RawData.id).filter_by(name=name)):
        refuse("name", "RawData with this name already exists.")


@after_races
def create(uploads: Uploads, name: str, **columns: str) -> RawData:
    with writing():
        check_name(name)
        row = RawData(name=name, files_path=f"raw_data/{name}", **columns, files=uploads.store(RawDataFile))
        db.session.add(row)
    return row


@blueprint.delete("/rawdata/<int:raw_data_id>/")
@answers(None, 204)
@takes_query(schemas.RemovedRawData)
def delete_raw_data(query: dict[str, Any], raw_data_id: int) -> ResponseReturnValue:
    """Remove a data set that has no submissions; by force, also its submissions and their folds, which are stopped."""
    jobs.stop_tasks(remove(raw_data_id, query["force"]))
    return "", 204


@blueprint.post("/rawdata/split/")
@blueprint.post("/raw_data/split/")
@answers(schemas.Task)
@takes(schemas.Split)
def split_raw_data(data: dict[str, Any]) -> ResponseReturnValue:
    """Split a data set into a training and a held-out test part."""
    raw_data_id = data["raw_data_id"]
    names = find_files(raw_data_id)
    if any(map(is_python, names)):
        refuse("raw_data_id", f"Raw data {raw_data_id} has its own Python file; expected /runapp/rawdata/customsplit/.")
    [(name, sha256)] = [(name, sha256) for name, sha256 in names.items() if separator(name)]
    try:
        n = too_few_rows(files.open_content(sha256), name, data["held_out_test"])
    except BadCSV as error:
        refuse("raw_data_id", f"{schemas.shown(name)} of raw data {raw_data_id} {error}; expected a table.")
    except files.CorruptContent:
        find(raw_data_id)  # refuses what was removed meanwhile
        raise
    if n is not None:
        share = data["held_out_test"]
        refuse("held_out_test", f"{share:g} of {n} rows leaves none to train on; expected rows on both sides.")
    return begin_split(**data)


@blueprint.post("/rawdata/customsplit/")
@blueprint.post("/raw_data/customsplit/")
@answers(schemas.Task)
@takes(schemas.CustomSplit)
def custom_split_raw_data(data: dict[str, Any]) -> ResponseReturnValue:
    """Split a data set by the functions of its own Python file."""
    raw_data_id = data["raw_data_id"]
    if not any(map(is_python, find_files(raw_data_id))):
        refuse("raw_data_id", f"Raw data {raw_data_id} has no Python file of its own; expected /runapp/rawdata/split/.")
    return begin_split(raw_data_id, None, None, force=False)


@after_races
def begin_split(
    raw_data_id: int, held_out_test: float | None, random_state: int | None, force: bool
) -> ResponseReturnValue:
    """Commit the split and enqueue its job, unless the same split is made or under way."""
    with writing():
        row = find(raw_data_id, lock=True)
        same = (row.held_out_test, row.random_state) == (held_out_test, random_state)
        if same and row.split_state in (State.TODO, State.DONE):
            return {"task_id": row.task_id}
        if not (same or force) and has_folds(row):
            refuse("raw_data_id", f"Raw data {row.id} has folds on its present split; expected force to be true.")
        stopped = [row.task_id, *(reset_folds(row) if force else [])]
        reset_split(row, held_out_test, random_state)
    jobs.stop_tasks(stopped)
    jobs.enqueue(row)
    return {"task_id": row.task_id}


def reset_split(row: RawData, held_out_test: float | None, random_state: int | None) -> None:
    contents = [getattr(row, name) for name in MADE_BY_SPLIT]
    for name in (*MADE_BY_SPLIT, "n_train", "n_test", "classes"):
        setattr(row, name, None)
    row.specific_needed, row.specific_fault = False, None
    row.held_out_test, row.random_state, row.split_state = held_out_test, random_state, State.TODO
    row.begin_anew()
    files.remove_unowned(db.session(), contents)


def reset_folds(row: RawData) -> list[str | None]:
    """Return all folds of a data set to TODO; return the ids of their jobs so far.

    First their rows: from then on no worker adds predictions, and nobody removes a fold.
    """
    of_data = SubmissionFold.databoard_s.in_(submissions_of(row))
    columns = SubmissionFold.databoard_sf_id, SubmissionFold.task_id
    anew = update(SubmissionFold).where(of_data).values(SubmissionFold.anew()).returning(*columns)
    before = db.session.execute(anew, execution_options=UNSYNCHRONIZED).all()
    fold_ids = select(SubmissionFold.databoard_sf_id).where(of_data)
    db.session.execute(delete(FoldPredictions).where(FoldPredictions.databoard_sf_id.in_(fold_ids)))
    if before:
        task_ids = [{"databoard_sf_id": fold_id, "task_id": str(uuid4())} for fold_id, _ in before]
        db.session.execute(update(SubmissionFold), task_ids)
    return [task_id for _, task_id in before]


def submissions_of(row: RawData) -> Select:
    return select(Submission.databoard_s_id).filter_by(raw_data=row.id)


@after_races
def remove(raw_data_id: int, force: bool) -> list[str | None]:
    """Commit the removal of a data set and all that is of it; return the ids of jobs, which are to be stopped."""
    with writing():
        row = db.session.get(RawData, raw_data_id, with_for_update=True) or abort(
            404, f"There is no raw data {raw_data_id}."
        )
        submissions = submissions_of(row)
        n = db.session.scalar(select(func.count()).select_from(submissions.subquery()))
        if n and not force:
            what = f"Raw data {row.id} has {n} submission{'s' if n > 1 else ''}"
            refuse("raw_data_id", f"{what}; expected none, or force=true, which removes submissions and folds too.")
        posted = select(SubmissionFile.sha256).where(SubmissionFile.databoard_s_id.in_(submissions)).distinct()
        contents = [*db.session.scalars(posted), *(file.sha256 for file in row.files)]
        contents += [getattr(row, name) for name in MADE_BY_SPLIT]
        stopped = [row.task_id, *remove_folds(SubmissionFold.databoard_s.in_(submissions))]
        db.session.execute(delete(Submission).filter_by(raw_data=row.id))
        db.session.delete(row)
        files.remove_unowned(db.session(), contents)
    return stopped


def check_files(uploads: dict[str, BinaryIO], target_column: str) -> None:
    """Refuse files that are no data set: one table with its targets and a row, or a Python file."""
    if any(map(is_python, uploads)):
        return
    tables = [name for name in uploads if separator(name)]
    if len(tables) != 1:
        expected = f"one ({', '.join(TABLES)}), or a Python file that reads the data"
        refuse("files", f"{len(tables)} CSV files came; expected {expected}.")
    [name] = tables
    try:
        judge(uploads[name], name, target_column)
    except BadCSV as error:
        refuse("files", f"{schemas.shown(name)} {error}; expected a header and at least one row.")
    except KeyError as error:
        target, header = error.args
        columns = list(map(schemas.shortened, header[:SHOWN_COLUMNS])) + ["..."] * (len(header) > SHOWN_COLUMNS)
        refuse(
            "target_column",
            f"{schemas.shown(target)} is no column of {schemas.shown(name)}; expected one of {', '.join(columns)}.",
        )


def find(raw_data_id: int, lock: bool = False) -> RawData:
    """Return a data set, which the request is about; refused where there is none."""
    g.about = f"raw data {raw_data_id}"
    row = db.session.get(RawData, raw_data_id, with_for_update=lock or None)
    if row is None:
        refuse("raw_data_id", unknown(raw_data_id))
    return row


def find_files(raw_data_id: int) -> dict[str, str]:
    """Return the hashes of a data set's files by their names; refused where there is no such data set.

    One statement reads them, so that who removes the data set meanwhile leaves all or none; then no connection is held,
    as to read a file takes one.
    """
    g.about = f"raw data {raw_data_id}"
    found = select(RawDataFile.name, RawDataFile.sha256).filter_by(raw_data_id=raw_data_id)
    hashes = dict(db.session.execute(found).all())
    db.session.rollback()
    if not hashes:  # each data set has one at least
        refuse("raw_data_id", unknown(raw_data_id))
    return hashes


def unknown(raw_data_id: int) -> str:
    return f"There is no raw data {raw_data_id}; expected the id of a data set."


def has_folds(row: RawData) -> bool:
    statement = select(SubmissionFold.databoard_sf_id).join(Submission).where(Submission.raw_data == row.id).limit(1)
    return db.session.scalar(statement) is not None
