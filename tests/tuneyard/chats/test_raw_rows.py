"""Raw rows: files and folders in an object store are read as those on a disk; broken files are errors."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.object_store import ObjectStore
from tuneyard.chats.dataset import DatasetScan, load_chat_dataset
from tuneyard.core.errors import DatasetError
from tuneyard.storage.folder import StorageFolder

LINES = Path("jobs/data/brindle_train.jsonl").read_text(encoding="utf-8").splitlines()[:20]


@pytest.fixture(scope="module")
def chats_in_store(store: ObjectStore) -> ObjectStore:
    """Chats in `s3://bucket/chats`."""
    content = "\n".join(LINES).encode()
    folder = StorageFolder.open("s3://bucket/chats")
    folder.write("train.jsonl", content)
    folder.write("train.jsonl.gz", gzip.compress(content))
    folder.write("broken.jsonl", content + b"\n{broken")
    for number, lines in enumerate((LINES[:12], LINES[12:])):
        folder.child("shards").write(f"part-{number}.jsonl", "\n".join(lines).encode())
    return store


@pytest.mark.usefixtures("chats_in_store")
@pytest.mark.parametrize("path", ["train.jsonl", "train.jsonl.gz", "shards"])
def test_a_dataset_in_a_store_equals_the_one_on_disk(tmp_path: Path, path: str) -> None:
    (tmp_path / "local.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    local = DatasetScan(str(tmp_path / "local.jsonl"))
    remote = DatasetScan(f"s3://bucket/chats/{path}")
    assert [example.messages for example in remote] == [example.messages for example in local]
    assert remote.fingerprint == local.fingerprint


@pytest.mark.usefixtures("chats_in_store")
def test_problems_name_the_line_of_a_file_in_a_store() -> None:
    with pytest.raises(DatasetError, match=r"broken.jsonl:21: not valid JSON"):
        load_chat_dataset("s3://bucket/chats/broken.jsonl")


@pytest.mark.usefixtures("chats_in_store")
@pytest.mark.parametrize("path", ["bucket/chats/nothing.jsonl", "no-bucket/x.jsonl"])
def test_a_missing_object_or_bucket_is_an_error(path: str) -> None:
    with pytest.raises(DatasetError, match=r"no such dataset file|cannot be reached"):
        load_chat_dataset(f"s3://{path}")


def test_broken_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(b"prompt,completion\nq,a\nq\nq,\xff\n")
    with pytest.raises(DatasetError, match=r"c.csv:3: the row has 1 field, the header has 2") as caught:
        load_chat_dataset(str(tmp_path / "c.csv"))
    assert "c.csv:4: not UTF-8: byte 0xff" in str(caught.value)
    (tmp_path / "p.parquet").write_bytes(b"nope, not at all Parquet")
    with pytest.raises(DatasetError, match=r"p.parquet: cannot be read"):
        load_chat_dataset(str(tmp_path / "p.parquet"))
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(b'{"messages": []}\n' * 500)[:60])
    with pytest.raises(DatasetError, match=r"t.jsonl.gz"):
        load_chat_dataset(str(tmp_path / "t.jsonl.gz"))
    (tmp_path / "x.txt").write_text("hi")
    with pytest.raises(DatasetError, match=r"the file type '.txt' is not supported. Supported: .jsonl"):
        load_chat_dataset(str(tmp_path / "x.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"the folder holds no dataset"):
        load_chat_dataset(str(tmp_path / "empty"))
