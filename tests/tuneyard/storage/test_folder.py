"""StorageFolder: errors of a real object store are explained, and small files on a mounted disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.core.errors import StorageError
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.retries import with_retries


@pytest.mark.usefixtures("store")
def test_refusals_of_a_store_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"NO_SUCH_BUCKET|Bucket"):
        StorageFolder.open("s3://no-such-bucket/x").write("f", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="Credentials come from AWS_ACCESS_KEY_ID"):
        StorageFolder.open("s3://bucket/x").read("f")


@pytest.mark.usefixtures("store")
def test_a_store_that_does_not_answer_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    folder = StorageFolder.open("s3://bucket/x")
    with pytest.raises(StorageError, match=r"^s3://bucket/x: .*\n?.*Check that the store is running"):
        with_retries(folder.location, lambda: folder.filesystem.get_file_info(folder.path), delays_s=(0.01,))


def test_an_unsupported_scheme_is_refused() -> None:
    with pytest.raises(StorageError, match=r"pyarrow.fs does not support this location"):
        StorageFolder.open("s4://bucket/x")


def test_small_files_of_a_mounted_disk(tmp_path: Path) -> None:
    folder = StorageFolder.open(str(tmp_path)).child("runs", "one")
    assert (folder.names(), folder.read("f"), folder.size_of("f")) == ([], None, None)
    folder.write("f", b"old")
    folder.write("f", b"new!")
    assert (folder.names(), folder.read("f"), folder.size_of("f")) == (["f"], b"new!", 4)
