"""Uploads of large data sets: seconds and memory of the web, beside writing the same bytes to the same database."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Column, Engine, Integer, LargeBinary, MetaData, Table, insert

from . import data
from .figures import Figure
from .memory import MB, growth
from .peer_database import engine
from .scratch import scratch_folder
from .service import Service, checked, service

CHUNK_SIZE = 2**20  # bytes, of the bare write
MULTIPART_MEMORY = 64  # MB

bare_chunk = Table(
    "bare_chunk", MetaData(), Column("id", Integer, primary_key=True), Column("data", LargeBinary, nullable=False)
)


def measure(quick: bool) -> Iterator[Figure]:
    sizes = {"multipart": 100 if quick else 500, "JSON": 10 if quick else 50}  # MB
    with scratch_folder() as folder, service(folder / "home", workers=0) as running:
        bare_chunk.create(engine(running.config.database_url))
        running.get("rawdata/")  # pays scrypt
        yield from compare(running, folder, "multipart", sizes["multipart"], running.post_data, MULTIPART_MEMORY)
        yield from compare(running, folder, "JSON", sizes["JSON"], lambda *what: post_json(running, *what))


def compare(
    running: Service,
    folder: Path,
    form: str,
    size: int,
    post: Callable[[str, Path], object],
    most_memory: float | None = None,
) -> Iterator[Figure]:
    """Post a file and write another one bare, in turn; each has its own content, which is stored anew."""
    database = engine(running.config.database_url)
    rates: dict[str, list[float]] = {"posted": [], "bare": []}
    grown = 0.0
    for repeat in range(2):
        csv = folder / f"{form}-{repeat}.csv"
        data.write_wide(csv, size * MB // data.wide_row_size(), seed=repeat)
        with growth(running.web_processes()) as memory:
            rates["posted"].append(size / seconds(lambda path=csv, name=csv.stem: post(name, path)))
        grown = max(grown, memory.mb)
        rates["bare"].append(size / seconds(lambda path=csv: write(database, path)))
        csv.unlink()
    goal = ("ratio at least", 0.5) if most_memory else None
    name = f"upload of {size} MB by {form}"
    yield Figure(name, "MB/s", rates["posted"], "a bare write of the same bytes", rates["bare"], goal)
    yield Figure(f"{name}, growth of web", "MB", [grown], goal=most_memory and ("at most", most_memory))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def post_json(running: Service, name: str, path: Path) -> None:
    body = {"name": name, "target_column": "target", "workflow_elements": "classifier"}
    checked(running.http.post(f"{running.url}runapp/rawdata/", json={**body, "files": {"data.csv": path.read_text()}}))


def write(database: Engine, path: Path) -> None:
    """Commit the file's bytes, in one transaction."""
    with database.begin() as connection, path.open("rb") as file:
        while chunk := file.read(CHUNK_SIZE):
            connection.execute(insert(bare_chunk).values(data=chunk))
