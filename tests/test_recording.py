"""What an execution writes to its row while it stores much."""

import io
import math
from types import SimpleNamespace

import pytest
import rows
from flask import Flask
from sqlalchemy import select

import files
import recording
from models import Chunk, RawData, SubmissionFold, db
from pulse import NotOurs, Pulse

CHUNKS = 3


def key(row: RawData | SubmissionFold) -> int:
    return row.id if isinstance(row, RawData) else row.databoard_sf_id


def claimed() -> recording.Claim:
    data = rows.raw_data()
    claim = recording.claim(RawData, data.id, data.task_id, max_attempts=3)
    assert claim is not None
    return claim


def heartbeat_of(claim: recording.Claim) -> object:
    db.session.rollback()
    return db.session.scalar(select(RawData.heartbeat_at).filter_by(id=claim.id))


def big() -> io.BytesIO:
    return io.BytesIO(b"x" * (CHUNKS * files.CHUNK_SIZE))


@pytest.fixture(autouse=True)
def short_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STRETCH", 1)


def test_storing_gives_signs_of_life(database_url: str, app: Flask) -> None:
    with app.app_context():
        claim = claimed()
        seen = [heartbeat_of(claim)]

        def beat() -> None:
            assert claim.heartbeat()
            seen.append(heartbeat_of(claim))

        files.store(big(), beat=beat)
        assert len(set(seen)) == len(seen) == 1 + CHUNKS


def test_a_pulse_is_due_as_often_as_it_is_to_beat() -> None:
    listener = SimpleNamespace(stop_at=math.inf)
    assert Pulse(SimpleNamespace(), listener, interval=0.2).wait() <= 0.2
    assert Pulse(SimpleNamespace(), listener, interval=60.0).wait() > 0.2  # to look at the row


def test_storing_for_a_row_that_another_has_claimed_ends(database_url: str, app: Flask) -> None:
    with app.app_context():
        claim = claimed()
        row = db.session.get_one(RawData, claim.id)
        assert recording.claim(RawData, row.id, row.task_id, max_attempts=3)

        def beat() -> None:
            if not claim.heartbeat():
                raise NotOurs

        with pytest.raises(NotOurs):
            files.store(big(), beat=beat)
        assert db.session.scalar(select(Chunk).limit(1).where(Chunk.position == CHUNKS - 1)) is None


class Unreadable(io.BytesIO):
    def read(self, _size: int | None = -1) -> bytes:
        raise AssertionError("read while others wait for the database")


def test_the_end_of_a_split_reads_nothing_of_what_is_stored(database_url: str, app: Flask) -> None:
    with app.app_context():
        claim = claimed()
        sha256 = files.store(big())
        assert claim.finish_split({"X_train": (sha256, Unreadable(big().getvalue()))}, "", n_train=1)
        db.session.rollback()
        assert db.session.get_one(RawData, claim.id).X_train == sha256


@pytest.mark.parametrize("model", [RawData, SubmissionFold])
def test_the_log_of_each_attempt_is_kept(database_url: str, app: Flask, model: recording.Model) -> None:
    """Whoever mends the host reads there why the last one failed, too."""
    with app.app_context():
        row = rows.raw_data()
        row = row if model is RawData else rows.fold(rows.submission(row))
        for attempt in (1, 2):
            db.session.rollback()
            db.session.refresh(row)
            claim = recording.claim(model, key(row), row.task_id, max_attempts=2)
            assert claim.heartbeat(log_messages=f"printed in attempt {attempt}")
            assert claim.retry(f"reason {attempt}")
        db.session.rollback()
        db.session.refresh(row)
        assert row.log_messages == (
            "printed in attempt 1\nAttempt 1 ended without a result: reason 1.\n"
            f"printed in attempt 2\nAttempt 2 ended without a result: reason 2.\n{recording.OURS}"
        )
