"""Published checkpoints in an object store: versions, and equal content in every copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.checkpoints.folder_index import FolderIndex
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.publishing import next_version_location, publish
from tuneyard.checkpoints.transfer import upload
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError
from tuneyard.storage.folder import StorageFolder

pytestmark = pytest.mark.usefixtures("store", "cache")


def test_a_published_checkpoint_is_downloaded_unchanged_and_once(
    tiny_oss: Path,
) -> None:
    models = "s3://bucket/models/tiny"
    location = next_version_location(models, "run-one-of-two")
    assert location == f"{models}/1-run-one-"
    assert next_version_location(models, "another") == f"{models}/1-another", "two runs at once must not share a folder"
    publish(tiny_oss, location)
    assert next_version_location(models, "run-one-of-two") == f"{models}/2-run-one-"
    small = local_folder(location, weights=False)
    assert read_manifest(small) == read_manifest(tiny_oss)
    assert not list(small.glob("*.safetensors"))
    copy = local_folder(location)
    assert validate_hf_checkpoint(copy) == read_manifest(tiny_oss)
    assert local_folder(location) == copy
    assert local_folder(str(tiny_oss)) == tiny_oss
    publish(tiny_oss, location)  # the same again is no harm
    with pytest.raises(CheckpointError, match="never overwritten"):
        upload(tiny_oss, StorageFolder.open(location), FolderIndex("manifest.json", b"other", {}))
