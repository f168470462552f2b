"""A checkpoint becomes visible where it belongs, on a mounted disk or an object store, whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tuneyard.checkpoints.manifest import MANIFEST_NAME
from tuneyard.checkpoints.node_cache import cache_folder
from tuneyard.checkpoints.staging import next_version_folder, publish_checkpoint, staging_folder
from tuneyard.checkpoints.transfer import Index, upload
from tuneyard.storage.folder import StorageFolder, child_location, is_uri


@contextlib.contextmanager
def staged(target: str) -> Iterator[Path]:
    """A fresh folder to write the checkpoint into that `publish` will bring to `target`; gone at the end.

    Beside the target, or for an object store on this node's disk. Raises as staging_folder does.
    """
    if not is_uri(target):
        with staging_folder(Path(target)) as staging:
            yield staging
        return
    with staging_folder(cache_folder() / "staging" / "export") as staging:
        yield staging


def publish(staging: Path, target: str) -> None:
    """Makes a finished checkpoint visible at its target, manifest last. Raises CheckpointError if one is there."""
    if is_uri(target):
        upload(staging, StorageFolder.open(target), Index.of_checkpoint(staging))
    else:
        publish_checkpoint(staging, Path(target))


def version_in(target: str) -> str:
    """The last part of a location: the version that is published there."""
    return PurePosixPath(urlsplit(target).path if is_uri(target) else target).name


def next_version(models: str, made_by: str) -> str:
    """Where the next version of a model goes: `<models>/<n>`, one more than the highest published there.

    An object store does not tell who comes first, so there it is `<n>-<made_by>`, of a run: two at once stay apart, and
    one that is repeated goes on with what it uploaded.
    """
    if not is_uri(models):
        return str(next_version_folder(Path(models)))
    folder = StorageFolder.open(models)
    taken = [
        int(number)
        for name in folder.names()
        if (number := name.partition("-")[0]).isdigit() and folder.child(name).size_of(MANIFEST_NAME) is not None
    ]
    return child_location(models, f"{max(taken, default=0) + 1}-{made_by[:8]}")
