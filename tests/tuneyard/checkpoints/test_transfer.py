"""Uploads and downloads: resumable, hashed, and independent of short failures of the store."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.object_store import ObjectStore, store_folder
from tuneyard.checkpoints import transfer
from tuneyard.checkpoints.folder_index import FolderIndex
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.publishing import next_version_location
from tuneyard.checkpoints.transfer import download, upload
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError
from tuneyard.storage.folder import StorageFolder

pytestmark = pytest.mark.usefixtures("store", "cache")


def test_an_interrupted_upload_is_no_checkpoint_and_continues(tiny_oss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, index = store_folder("models/cut/1-abc"), FolderIndex.of_checkpoint(tiny_oss)
    written: list[str] = []
    real = transfer._write_object

    def cut(path: Path, target: StorageFolder, name: str, *more: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(name)
        real(path, target, name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "THREADS", 1)
    monkeypatch.setattr(transfer, "_write_object", cut)
    with pytest.raises(KeyboardInterrupt):
        upload(tiny_oss, target, index)
    with pytest.raises(CheckpointError, match="no finished checkpoint there"):
        local_folder(target.location)
    assert next_version_location("s3://bucket/models/cut", "abc") == target.location
    first, written[:] = list(written), ["", "", ""]
    upload(tiny_oss, target, index)
    assert not set(first) & set(written)
    validate_hf_checkpoint(local_folder(target.location))


def test_a_file_that_was_damaged_in_the_store_is_never_used(tiny_oss: Path) -> None:
    target = store_folder("models/damaged/1")
    upload(tiny_oss, target, FolderIndex.of_checkpoint(tiny_oss))
    whole = target.read("model.safetensors")
    assert whole is not None
    target.write("model.safetensors", whole[:-1] + bytes([whole[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"model\.safetensors does not match the index"):
            local_folder(target.location)
    target.write("model.safetensors", whole)
    validate_hf_checkpoint(local_folder(target.location))


@settings(max_examples=8)
@given(
    st.dictionaries(st.sampled_from(["a", "b c.txt", "x/y/z", "ü.json"]), st.binary(max_size=3000), min_size=1),
    st.data(),
)
def test_any_interrupted_download_continues_to_the_same_content(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], data: st.DataObject
) -> None:
    folder, there = tmp_path_factory.mktemp("from"), tmp_path_factory.mktemp("to")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        have = data.draw(st.integers(0, len(content)))
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(content[:have])
    target = store_folder(f"any/{time.time_ns()}")
    index = FolderIndex.of_files(folder)
    upload(folder, target, index)
    assert FolderIndex.read(target) == index
    download(target, index, there)
    assert {name: (there / name).read_bytes() for name in files} == files


def test_a_store_that_fails_for_some_seconds_delays_a_transfer_only(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(random.Random(1).randbytes(48 * 2**20))
    target, index = store_folder("hiccup"), FolderIndex.of_files(tmp_path)
    started = threading.Event()

    def interrupt() -> None:
        started.wait(30)
        store.stop()
        time.sleep(2)
        store.start()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        real = transfer._write_object

        def first_then_down(*arguments: object) -> None:
            started.set()
            real(*arguments)  # type: ignore[arg-type]

        patch.setattr(transfer, "_write_object", first_then_down)
        upload(tmp_path, target, index)
    thread.join()
    back = tmp_path / "back"
    back.mkdir()
    download(target, index, back)


def test_wrong_bytes_of_an_earlier_download_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "file").write_bytes(b"0123456789")
    index = FolderIndex.of_files(tmp_path / "from")
    upload(tmp_path / "from", store_folder("left"), index)
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "file").write_bytes(b"xxxx")
    download(store_folder("left"), index, tmp_path / "to")
    assert (tmp_path / "to" / "file").read_bytes() == b"0123456789"
