"""Chats on a real object store are read as those on the disk."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.object_store import ObjectStore
from tuneyard.chats.dataset import DatasetScan, load_chat_dataset
from tuneyard.cli.main import main
from tuneyard.core.errors import DatasetError
from tuneyard.storage.folder import StorageFolder

LINES = Path("jobs/data/brindle_train.jsonl").read_text(encoding="utf-8").splitlines()[:20]


pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Chats in `s3://bucket/chats`."""
    with ObjectStore(tmp_path_factory.mktemp("store")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        whole = "\n".join(LINES).encode()
        folder = StorageFolder.open("s3://bucket/chats")
        folder.write("train.jsonl", whole)
        folder.write("train.jsonl.gz", gzip.compress(whole))
        folder.write("broken.jsonl", whole + b"\n{broken")
        for number, lines in enumerate((LINES[:12], LINES[12:])):
            folder.child("shards").write(f"part-{number}.jsonl", "\n".join(lines).encode())
        yield


@pytest.mark.parametrize("path", ["train.jsonl", "train.jsonl.gz", "shards"])
def test_files_and_folders_are_those_of_the_disk(tmp_path: Path, path: str) -> None:
    (tmp_path / "local.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    local = DatasetScan(str(tmp_path / "local.jsonl"))
    remote = DatasetScan(f"s3://bucket/chats/{path}")
    assert [example.messages for example in remote] == [example.messages for example in local]
    assert remote.fingerprint == local.fingerprint


def test_validate_names_the_line_on_the_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "validate", "s3://bucket/chats/broken.jsonl"]) == 1
    assert "broken.jsonl:21: not valid JSON" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["bucket/chats/nothing.jsonl", "no-bucket/x.jsonl"])
def test_what_is_not_there_is_said(path: str) -> None:
    with pytest.raises(DatasetError, match=r"no such dataset file|cannot be reached"):
        load_chat_dataset(f"s3://{path}")
