"""ResultFolder: the results of a batch that has not ended, part by part. Its methods block."""

from __future__ import annotations

import contextlib
import secrets
from typing import Literal

from serve_apps.platform_app.files.content_store import ContentStore
from tuneyard.core.errors import StorageError
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.location import child_location

Kind = Literal["output", "errors"]
KINDS: tuple[Kind, ...] = ("output", "errors")
"""The files that a batch writes."""

FOLDER = "batches"
"""Folder beside the content of files."""


class ResultFolder:
    """The parts of one batch in a folder of its own below `location`, where the content of files is."""

    def __init__(self, location: str, batch_id: str) -> None:
        self._location = child_location(location, FOLDER, batch_id)

    @staticmethod
    def new_name() -> str:
        """A name for the next part. It is random, so that no other process ever overwrites the part's contents."""
        return f"part-{secrets.token_hex(16)}"

    def write(self, name: str, kind: Kind, content: bytes) -> None:
        """Writes the output lines or the error lines of a part, durably. Raises StorageFullError or StorageError."""
        incoming = self._store().begin(f"{name}.{kind}")
        try:
            incoming.write(content)
            incoming.publish(f"{name}.{kind}.jsonl")
        finally:
            incoming.discard()

    def read(self, name: str, kind: Kind) -> bytes:
        """The lines of a part. Raises StorageError."""
        folder = StorageFolder.open(self._location)
        content = folder.read(f"{name}.{kind}.jsonl")
        if content is None:
            raise StorageError(f"{self._location}/{name}.{kind}.jsonl is missing: it was deleted without the API.")
        return content

    def delete(self) -> None:
        """Deletes the folder, if it is there."""
        folder = StorageFolder.open(self._location)

        def delete_all() -> None:
            with contextlib.suppress(FileNotFoundError):
                folder.filesystem.delete_dir(folder.path)

        folder.with_retries(self._location, delete_all)

    def _store(self) -> ContentStore:
        return ContentStore(self._location)
