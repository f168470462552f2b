"""Chats on an object store, over S3's real protocol: a server of this test's own, pyarrow's real client."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow.fs as pafs
import pytest
from moto.server import ThreadedMotoServer

from tuneyard.cli import main
from tuneyard.dataset import DatasetScan, load_chat_dataset
from tuneyard.errors import DatasetError

LINES = Path("jobs/data/brindle_train.jsonl").read_text(encoding="utf-8").splitlines()[:20]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """Options that a URI needs to reach the server; the bucket `chats` is there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        options = f"scheme=http&region=us-east-1&endpoint_override={quote(f'127.0.0.1:{port}')}"
        filesystem, _ = pafs.FileSystem.from_uri(f"s3://chats?{options}&allow_bucket_creation=true")
        filesystem.create_dir("chats")
        whole = "\n".join(LINES).encode()
        for name, content in {
            "train.jsonl": whole,
            "train.jsonl.gz": gzip.compress(whole),
            "shards/part-0.jsonl": "\n".join(LINES[:12]).encode(),
            "shards/part-1.jsonl": "\n".join(LINES[12:]).encode(),
            "broken.jsonl": whole + b"\n{broken",
        }.items():
            with filesystem.open_output_stream(f"chats/{name}", compression=None) as file:
                file.write(content)
        yield options
    server.stop()


@pytest.mark.parametrize("path", ["train.jsonl", "train.jsonl.gz", "shards"])
def test_files_and_folders_are_those_of_the_disk(store: str, tmp_path: Path, path: str) -> None:
    (tmp_path / "local.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    local = DatasetScan(str(tmp_path / "local.jsonl"))
    remote = DatasetScan(f"s3://chats/{path}?{store}")
    assert [example.messages for example in remote] == [example.messages for example in local]
    assert remote.fingerprint == local.fingerprint


def test_validate_names_the_line_on_the_store(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "validate", f"s3://chats/broken.jsonl?{store}"]) == 1
    assert "broken.jsonl:21: not valid JSON" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["chats/nothing.jsonl", "no-bucket/x.jsonl"])
def test_what_is_not_there_is_said(store: str, path: str) -> None:
    with pytest.raises(DatasetError, match=r"no such dataset file|cannot be reached"):
        load_chat_dataset(f"s3://{path}?{store}")
