"""Contents in the database, and folders on disk."""

import hashlib
import io
import threading
from pathlib import Path

import pytest
from flask import Flask
from marshmallow import ValidationError
from sqlalchemy import func, select, update

import files
from models import Chunk, Content, RawData, RawDataFile, db, writing

LARGE = bytes(range(256)) * (files.CHUNK_SIZE // 256 * 2 + 1)


def own(content: bytes, name: str) -> None:
    """Store a content and a data set that owns it."""
    with writing():
        sha256 = files.store(io.BytesIO(content), db.session())
        owned = RawDataFile(name="a.csv", sha256=sha256)
        db.session.add(RawData(name=name, files_path="", target_column="", workflow_elements="", files=[owned]))


def disown(name: str) -> None:
    with writing():
        row = db.session.scalar(select(RawData).filter_by(name=name))
        contents = [file.sha256 for file in row.files]
        db.session.delete(row)
        files.remove_unowned(db.session(), contents)


def count(model: type) -> int:
    return db.session.scalar(select(func.count()).select_from(model))


@pytest.mark.parametrize("content", [b"", b"x", LARGE])
def test_a_content_is_stored_once_and_read_in_chunks(database_url: str, app: Flask, content: bytes) -> None:
    with app.app_context():
        sha256 = files.store(io.BytesIO(content))
        assert files.store(io.BytesIO(content)) == sha256
        assert [len(chunk) for chunk in files.read(sha256)] == [
            len(content[i : i + files.CHUNK_SIZE]) for i in range(0, len(content), files.CHUNK_SIZE)
        ]
        assert files.open_content(sha256).read() == content
        assert db.session.get_one(Content, sha256).size == len(content)


@pytest.mark.parametrize("content", [b"", b"x", LARGE])
def test_a_spooled_file_is_hashed_as_it_is_written(content: bytes) -> None:
    with files.Spool() as file:
        file.write(content[:1000])
        file.writelines(content[i : i + 1000] for i in range(1000, len(content), 1000))
        assert b"".join(files.chunks_of(file)) == content
        assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_a_corrupt_content_is_noticed(app: Flask) -> None:
    with app.app_context():
        sha256 = files.store(io.BytesIO(b"content"))
        db.session.execute(update(Chunk).values(data=b"another"))
        db.session.commit()
        with pytest.raises(files.CorruptContent):
            list(files.read(sha256))
        with pytest.raises(files.CorruptContent):
            list(files.read("0" * 64))


def test_a_content_goes_with_its_last_owner(database_url: str, app: Flask) -> None:
    with app.app_context():
        own(LARGE, "first")
        own(LARGE, "second")
        disown("first")
        assert (count(Content), count(Chunk)) == (1, 3)
        disown("second")
        assert (count(Content), count(Chunk)) == (0, 0)


def test_what_was_stored_by_a_transaction_that_failed_is_gone(database_url: str, app: Flask) -> None:
    with app.app_context():
        with pytest.raises(ZeroDivisionError), writing():
            files.store(io.BytesIO(LARGE), db.session())
            _ = 1 / 0
        assert (count(Content), count(Chunk)) == (0, 0)


class Interrupted(Exception):
    pass


def test_a_storing_that_was_interrupted_is_completed_by_the_next(
    database_url: str, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "STRETCH", 1)
    with app.app_context():
        beats = iter([None, Interrupted])

        def beat() -> None:
            if error := next(beats):
                raise error

        with pytest.raises(Interrupted):
            files.store(io.BytesIO(LARGE), beat=beat)
        assert count(Chunk) == (2 if db.engine.dialect.name == "sqlite" else 0)
        own(LARGE, "first")
        [sha256] = db.session.scalars(select(RawDataFile.sha256))
        assert files.open_content(sha256).read() == LARGE


def test_a_large_file_is_stored_ahead_on_sqlite_alone(
    database_url: str, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "STRETCH", 1)
    with app.app_context():
        for content in (LARGE, LARGE[: files.CHUNK_SIZE]):
            with files.stored_ahead({hashlib.sha256(content).hexdigest(): io.BytesIO(content)}):
                pass
        assert count(Chunk) == (3 if db.engine.dialect.name == "sqlite" else 0)


def test_a_large_file_that_is_refused_is_not_kept(
    database_url: str, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "STRETCH", 1)
    with app.app_context():
        own(b"named by another row", "other")
        contents = {hashlib.sha256(data).hexdigest(): io.BytesIO(data) for data in (LARGE, b"named by another row")}
        with pytest.raises(ValidationError), files.stored_ahead(contents):
            raise ValidationError("refused")
        assert db.session.scalars(select(Content.size)).all() == [len(b"named by another row")]


@pytest.mark.parametrize("content", [b"shared", LARGE])
def test_one_content_stored_and_removed_at_the_same_time_is_there_or_not(
    database_url: str, app: Flask, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Half of the threads keep what they store, the others remove it again."""
    from api.errors import after_races

    monkeypatch.setattr(files, "STRETCH", 1)
    barrier = threading.Barrier(4)
    errors = []

    def work(number: int) -> None:
        with app.app_context():
            barrier.wait()
            try:
                for turn in range(10):
                    with files.stored_ahead({hashlib.sha256(content).hexdigest(): io.BytesIO(content)}):
                        after_races(own)(content, f"{number} {turn}")
                    if number % 2 or turn < 9:
                        after_races(disown)(f"{number} {turn}")
            except Exception as error:  # reported by the test's thread
                errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with app.app_context():
        assert count(RawData) == 2
        [sha256] = db.session.scalars(select(Content.sha256))
        assert b"".join(files.read(sha256)) == content


def test_files_are_saved_into_a_folder(tmp_path: Path) -> None:
    files.save_files(tmp_path / "a" / "b", {"files": {"x.py": b"x = 1\n", "y.csv": iter([b"1,", b"2\n"])}})
    assert {path.name: path.read_bytes() for path in (tmp_path / "a" / "b").iterdir()} == {
        "x.py": b"x = 1\n",
        "y.csv": b"1,2\n",
    }
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("name", ["../x", "/x", "", ".", "..", "a\\b", "a\0", "a\nb", "\udcff", "é" * 101])
def test_no_file_is_saved_under_an_unsafe_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="file name"):
        files.save_files(tmp_path / "a", {"files": {"x.py": b"", name: b""}})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    files.save_files(tmp_path / "a", {"files": {"x.py": b"1"}})
    files.save_files(tmp_path / "a", {"files": {"x.py": b"2"}})
    assert (tmp_path / "a" / "x.py").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_of_files_that_cannot_be_read_to_the_end_none_is_saved(tmp_path: Path) -> None:
    def broken() -> None:
        yield b"some"
        raise files.CorruptContent("x")

    with pytest.raises(files.CorruptContent):
        files.save_files(tmp_path / "a", {"files": {"x.py": b"1", "y.py": broken()}})
    assert list(tmp_path.iterdir()) == []
