"""Makes a finished checkpoint visible at its location, on a mounted disk or in an object store, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tuneyard.checkpoints.folder_index import FolderIndex
from tuneyard.checkpoints.manifest import MANIFEST_NAME
from tuneyard.checkpoints.node_cache import cache_folder
from tuneyard.checkpoints.staging import next_version_folder, publish_checkpoint, staging_folder
from tuneyard.checkpoints.transfer import upload
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.location import child_location, is_uri


@contextlib.contextmanager
def staged(target: str) -> Iterator[Path]:
    """Yields an empty folder for a checkpoint that `publish` will move to `target`. Removes it at the end.

    The folder is beside the target, or on this node's disk if the target is in an object store. Raises like
    staging_folder.
    """
    if not is_uri(target):
        with staging_folder(Path(target)) as staging:
            yield staging
        return
    with staging_folder(cache_folder() / "staging" / "export") as staging:
        yield staging


def publish(staging: Path, target: str) -> None:
    """Makes a finished checkpoint visible at its target. In an object store the manifest is uploaded last.

    Raises CheckpointError if the target already holds another checkpoint.
    """
    if is_uri(target):
        upload(staging, StorageFolder.open(target), FolderIndex.of_checkpoint(staging))
    else:
        publish_checkpoint(staging, Path(target))


def version_in(target: str) -> str:
    """The version in a checkpoint's location: its last path segment."""
    return PurePosixPath(urlsplit(target).path if is_uri(target) else target).name


def next_version_location(models: str, made_by: str) -> str:
    """The location of a model's next version: `<models>/<n>`, one more than the highest published version.

    In an object store the location is `<models>/<n>-<made_by>`, where `made_by` is the id of a run, shortened to 8
    characters: a store cannot reserve a name, so two runs at once need different ones. A repeated run gets the same
    location and continues its upload.
    """
    if not is_uri(models):
        return str(next_version_folder(Path(models)))
    folder = StorageFolder.open(models)
    published = [
        int(number)
        for name in folder.names()
        if (number := name.partition("-")[0]).isdigit() and folder.child(name).size_of(MANIFEST_NAME) is not None
    ]
    return child_location(models, f"{max(published, default=0) + 1}-{made_by[:8]}")
