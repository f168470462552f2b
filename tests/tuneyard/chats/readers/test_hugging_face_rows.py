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
READ = """
import json, sys
from tuneyard.chats.dataset import load_chat_dataset
from tuneyard.core.errors import DatasetError

found = {}
for location in sys.argv[1:]:
    try:
        dataset = load_chat_dataset(location)
        found[location] = f"{len(dataset.examples)} {dataset.examples[0].source} {dataset.format}"
    except DatasetError as e:
        found[location] = f"DatasetError: {e}"
print(json.dumps(found))
"""
READABLE = ("hf:acme/chats:train", "hf:acme/chats")
MISSING = {
    "hf:acme/nothing": "cannot be loaded from the Hugging Face hub",
    "hf:acme/chats:nothing": "the dataset has the splits train. Choose one: hf:acme/chats:train",
    "hf:acme/chats#de": "the dataset has the configs default. Choose one: hf:acme/chats#default",
}


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


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Hugging Face's libraries use this hub and an empty cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    yield environment | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
        "PYTHONPATH": f"platform{os.pathsep}.",
    }
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def found(hub: dict[str, str]) -> dict[str, str]:
    """What reading each location gave: the number of its rows, the first one's name, and the format; or the error."""
    # In a process of its own, because Hugging Face's libraries read their environment when they are imported.
    command = [sys.executable, "-W", "ignore", "-c", READ, *MISSING, *READABLE]
    result = subprocess.run(command, env=hub, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    read: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return read


@pytest.mark.parametrize("location", READABLE)
def test_a_dataset_is_read_by_name(found: dict[str, str], location: str) -> None:
    assert found[location] == "20 acme/chats:row 1 openai"


@pytest.mark.parametrize("location", MISSING)
def test_what_the_hub_lacks_is_an_error_with_the_choice(found: dict[str, str], location: str) -> None:
    assert found[location].startswith(f"DatasetError: {location}: {MISSING[location]}")
