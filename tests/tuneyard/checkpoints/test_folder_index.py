"""Indexes from an object store are checked before anything is downloaded."""

from __future__ import annotations

import json

import pytest

from tests.object_store import store_folder
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.core.errors import CheckpointError

pytestmark = pytest.mark.usefixtures("store", "cache")


@pytest.mark.parametrize("name", ["../out", "/etc/out", "", "a/../../out"])
def test_an_index_cannot_name_files_outside_of_the_folder(name: str) -> None:
    store_folder("evil").write("listing.json", json.dumps({name: {"sha256": "0", "size_bytes": 1}}).encode())
    with pytest.raises(CheckpointError, match=r"which lies outside of the folder"):
        local_folder(store_folder("evil").location)
    store_folder("evil").write("listing.json", b"[1]")
    with pytest.raises(CheckpointError, match=r"is not an index of files"):
        local_folder(store_folder("evil").location)
