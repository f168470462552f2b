"""Datasets of the Hugging Face hub, read with the real client from a local server that speaks the hub's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

CONTENT = b"\n".join(Path("jobs/data/brindle_train.jsonl").read_bytes().splitlines()[:20]) + b"\n"
SHA = "0" * 40
FILE = {"type": "file", "path": "train.jsonl", "size": len(CONTENT), "oid": "1" * 40}
COUNT_ROWS = """
import sys
from tuneyard.chats.dataset import load_chat_dataset
dataset = load_chat_dataset(sys.argv[1])
print(len(dataset.examples), dataset.examples[0].source, dataset.format)
"""


class Hub(BaseHTTPRequestHandler):
    """A hub with the dataset acme/chats, which has one file (https://huggingface.co/docs/hub/api)."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers.get("content-length", 0))).decode())
        is_there = "train.jsonl" in form.get("paths", ["train.jsonl"])
        self._send(json.dumps([FILE] if is_there else []).encode())

    def _answer(self, *, with_body: bool) -> None:
        path = urlparse(self.path).path
        if path.startswith("/api/datasets/acme/chats/tree/"):
            self._send(json.dumps([FILE]).encode())
        elif path == "/api/datasets/acme/chats" or path.startswith("/api/datasets/acme/chats/revision/"):
            info = {"id": "acme/chats", "sha": SHA, "siblings": [{"rfilename": "train.jsonl"}], "tags": []}
            self._send(json.dumps(info).encode())
        elif path.endswith("/train.jsonl") and path.startswith("/datasets/acme/chats/resolve/"):
            self._send(CONTENT, with_body=with_body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if "acme/chats" in path else "RepoNotFound")
            self.send_header("X-Repo-Commit", SHA)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, body: bytes, *, with_body: bool = True) -> None:
        start, end = 0, len(body) - 1
        if byte_range := self.headers.get("Range"):
            first, _, last = byte_range.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or end), end)
        part = body[start : end + 1]
        self.send_response(206 if byte_range else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(body)}")
        self.send_header("ETag", '"etag"')
        self.send_header("X-Repo-Commit", SHA)
        self.end_headers()
        if with_body:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which Hugging Face's libraries use this hub and an empty cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    yield environment | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "PYTHONPATH": f"platform{os.pathsep}.",
    }
    server.shutdown()
    server.server_close()


def count_rows(environment: dict[str, str], location: str) -> subprocess.CompletedProcess[str]:
    # In a process of its own, because Hugging Face's libraries read their environment when they are imported.
    command = [sys.executable, "-W", "ignore", "-c", COUNT_ROWS, location]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("location", ["hf:acme/chats", "hf:acme/chats:train"])
def test_a_dataset_is_read_by_name(hub: dict[str, str], location: str) -> None:
    result = count_rows(hub, location)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "20 acme/chats:row 1 openai"


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("hf:acme/nothing", "cannot be loaded from the Hugging Face hub"),
        ("hf:acme/chats:nothing", "the dataset has the splits train. Choose one: hf:acme/chats:train"),
        ("hf:acme/chats#de", "the dataset has the configs default. Choose one: hf:acme/chats#default"),
    ],
)
def test_what_the_hub_lacks_is_an_error_with_the_choice(hub: dict[str, str], location: str, message: str) -> None:
    result = count_rows(hub, location)
    assert result.returncode == 1
    assert f"DatasetError: {location}: {message}" in result.stderr
