"""The submission that a fold comes with: known, new, or replaced by force."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, select

import files
from api.errors import refuse
from api.uploads import Uploads
from api.workflow import split_names
from models import UNSYNCHRONIZED, RawData, Submission, SubmissionFile, SubmissionFold, db


def remove_folds(*conditions: ColumnElement[bool]) -> Sequence[str | None]:
    """Remove folds, in the present transaction; return the ids of their jobs, which are to be stopped after it."""
    gone = delete(SubmissionFold).where(*conditions).returning(SubmissionFold.task_id)
    return db.session.scalars(gone, execution_options=UNSYNCHRONIZED).all()


class SubmissionChange:
    """What a POST wants of a submission, checked against what is there. Lives within one transaction.

    The submission and its data are locked, in this order, so that no other fold or split of theirs comes between.
    """

    def __init__(self, databoard_s_id: int, raw_data: int | None, uploads: Uploads | None, forced: bool) -> None:
        self._id, self._uploads = databoard_s_id, uploads
        self._old = db.session.get(Submission, databoard_s_id, with_for_update=True)
        if self._old is None:
            self._check_new(raw_data)
        elif not forced:
            self._check_equal(raw_data)
        self.data = self._find_data(raw_data if raw_data is not None else self._old.raw_data)
        if self._uploads is not None or self._old.raw_data != self.data.id:  # else, it has been checked before
            self._check_workflow()

    def apply(self, replaced: int | None) -> Sequence[str | None]:
        """Make the submission what it shall be, and remove a fold of it; return the ids of removed folds' jobs.

        Where its files or its data change, its other folds are removed too: they are results of what is gone.
        """
        if self._old is None:
            db.session.add(self._new())
            return []
        of_submission = SubmissionFold.databoard_s == self._id
        if self._differs() or self._old.raw_data != self.data.id:
            self._replace()
            return remove_folds(of_submission)
        if replaced is None:
            return []
        return remove_folds(of_submission, SubmissionFold.databoard_sf_id == replaced)

    def _new(self) -> Submission:
        return Submission(
            databoard_s_id=self._id,
            raw_data=self.data.id,
            files_path=f"submissions/{self._id}",
            files=self._uploads.store(SubmissionFile),
        )

    def _replace(self) -> None:
        self._old.raw_data = self.data.id
        if self._differs():
            contents = [file.sha256 for file in self._old.files]
            self._old.files.clear()
            db.session.flush()
            self._old.files.extend(self._uploads.store(SubmissionFile))
            files.remove_unowned(db.session(), contents)

    def _stored(self) -> dict[str, str]:
        return {file.name: file.sha256 for file in self._old.files} if self._old else {}

    def _differs(self) -> bool:
        return self._uploads is not None and self._uploads.hashes != self._stored()

    def _check_new(self, raw_data: int | None) -> None:
        if raw_data is None and self._uploads is None:
            refuse("databoard_s_id", f"There is no submission {self._id}; expected raw_data and files with a new one.")
        if raw_data is None:
            refuse("raw_data", "This field is required with a new submission.")
        if self._uploads is None:
            refuse("files", "This field is required with a new submission.")

    def _check_equal(self, raw_data: int | None) -> None:
        force = "force to be 'submission, submission_fold'"
        if raw_data not in (None, self._old.raw_data):
            known = f"Submission {self._id} is one of raw data {self._old.raw_data}"
            refuse("raw_data", f"{known}, not {raw_data}; expected that, or {force}.")
        if self._differs():
            refuse("files", f"The files differ from those of submission {self._id}; expected the same, or {force}.")

    def _find_data(self, raw_data: int) -> RawData:
        locked = select(RawData).filter_by(id=raw_data).with_for_update(read=True)
        data = db.session.scalar(locked.execution_options(populate_existing=True))
        if data is None:
            refuse("raw_data", f"There is no raw data {raw_data}; expected the id of a data set.")
        return data

    def _check_workflow(self) -> None:
        hashes = self._stored() if self._uploads is None else self._uploads.hashes
        needed = [f"{name}.py" for name in split_names(self.data.workflow_elements)]
        if missing := [name for name in needed if name not in hashes]:
            named = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            refuse("files", f"{named}; expected {', '.join(needed)} for the workflow of {self.data.name}.")
        if empty := [name for name in needed if hashes[name] == files.EMPTY]:
            refuse("files", f"{', '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty; expected Python code.")
