"""The retrying filesystem: pyarrow calls succeed although the object store restarts."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from tests.object_store import ObjectStore
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.retrying_filesystem import MAX_FILE_BYTES, retrying_filesystem


def test_requests_are_retried_also_after_pickling(store: ObjectStore) -> None:
    folder = StorageFolder.open("s3://bucket/retried")
    filesystem = pickle.loads(pickle.dumps(retrying_filesystem(folder)))
    store.stop()
    thread = threading.Timer(1.5, store.start)
    thread.start()
    with filesystem.open_output_stream(f"{folder.path}/state.json") as file:
        file.write(b"{}")
    thread.join()
    assert folder.read("state.json") == b"{}"
    with filesystem.open_input_stream(f"{folder.path}/state.json") as file:
        assert file.read() == b"{}"
    infos = filesystem.get_file_info(pafs.FileSelector(folder.path))
    assert [info.base_name for info in infos] == ["state.json"]
    filesystem.delete_dir(folder.path)
    assert folder.names() == []
    assert filesystem == retrying_filesystem(folder)


def test_a_file_that_does_not_fit_in_memory_is_refused(tmp_path: Path) -> None:
    filesystem = retrying_filesystem(StorageFolder.open(str(tmp_path)))
    with filesystem.open_output_stream(str(tmp_path / "big")) as file, pytest.raises(OSError, match="64 MiB"):
        file.write(bytes(MAX_FILE_BYTES + 1))
