"""Posted files on their way into the database."""

from contextlib import AbstractContextManager
from typing import TypeVar

import files
from models import RawDataFile, SubmissionFile, db

Owner = TypeVar("Owner", RawDataFile, SubmissionFile)


class Uploads:
    """Files by name, spooled and hashed before any transaction opens."""

    def __init__(self, spooled: dict[str, files.Spool]) -> None:
        self._spooled = spooled
        self.hashes = {name: file.sha256 for name, file in spooled.items()}

    def stored_ahead(self) -> AbstractContextManager[None]:
        """Store what is large before the transaction that calls `store`, where others would wait for its end."""
        return files.stored_ahead({sha256: self._spooled[name] for name, sha256 in self.hashes.items()})

    def store(self, owner: type[Owner]) -> list[Owner]:
        """Store the contents in the present transaction; return new rows of the class `owner` that name them.

        They are stored in the order of their hashes, so that two requests at once cannot wait for each other.
        """
        for name, sha256 in sorted(self.hashes.items(), key=lambda item: item[1]):
            files.store(self._spooled[name], db.session(), sha256)
        return [owner(name=name, sha256=sha256) for name, sha256 in self.hashes.items()]
