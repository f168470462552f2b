"""FolderIndex: the files of a folder with their hashes, as the file that is uploaded last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuneyard.checkpoints.layout.content_hashes import FileEntry, hash_file
from tuneyard.checkpoints.layout.json_files import refuse_outside_names
from tuneyard.checkpoints.manifest import MANIFEST_NAME, CheckpointManifest
from tuneyard.core.errors import CheckpointError
from tuneyard.storage.folder import StorageFolder

LISTING_NAME = "listing.json"
"""Name of the index in a folder that is not a checkpoint. A checkpoint's index is its manifest."""


@dataclass(frozen=True, slots=True)
class FolderIndex:
    """The files of a folder, and the bytes of the index file itself."""

    name: str
    content: bytes
    files: Mapping[str, FileEntry]

    @property
    def digest(self) -> str:
        """sha256 of the index file. Folders with equal digests are equal byte for byte."""
        return hashlib.sha256(self.content).hexdigest()

    @classmethod
    def of_checkpoint(cls, folder: Path) -> FolderIndex:
        """The index of a finished checkpoint on a mounted disk: its manifest."""
        content = (folder / MANIFEST_NAME).read_bytes()
        return cls(MANIFEST_NAME, content, CheckpointManifest.model_validate_json(content).files)

    @classmethod
    def of_files(cls, folder: Path) -> FolderIndex:
        """The index of any folder on a mounted disk. Hashes every file."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}
        content = json.dumps({name: entry.model_dump() for name, entry in files.items()}, indent=1).encode()
        return cls(LISTING_NAME, content, files)

    @classmethod
    def read(cls, folder: StorageFolder) -> FolderIndex:
        """The index of a folder in an object store.

        Raises CheckpointError if there is none (the folder is missing or unfinished) or if it names a file outside of
        the folder.
        """
        for index_name, parse in ((MANIFEST_NAME, _parse_manifest), (LISTING_NAME, _parse_listing)):
            if (content := folder.read(index_name)) is None:
                continue
            try:
                files = parse(content)
            except (ValueError, TypeError, AttributeError, RecursionError) as e:
                raise CheckpointError(
                    f"{folder.location}/{index_name} is not an index of files: {e}. Upload the folder again as a new "
                    "version."
                ) from e
            # Downloads write to these paths.
            refuse_outside_names(files, f"{folder.location}/{index_name}")
            return cls(index_name, content, files)
        raise CheckpointError(
            f"{folder.location}: no finished checkpoint there: it has no {MANIFEST_NAME}, which is written last. "
            "Either its upload was interrupted or another tool made it. Upload it with "
            "`tuneyard models copy FOLDER URI`."
        )


def _parse_manifest(content: bytes) -> Mapping[str, FileEntry]:
    return CheckpointManifest.model_validate_json(content).files


def _parse_listing(content: bytes) -> Mapping[str, FileEntry]:
    return {name: FileEntry(**entry) for name, entry in json.loads(content).items()}
