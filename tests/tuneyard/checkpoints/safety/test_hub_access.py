"""After disable_hub_access nothing is fetched, whether the libraries were imported before or after."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEFORE = "import datasets, evaluate, transformers, huggingface_hub\n"
CODE = """
import socket
def connect(*_, **__): raise SystemExit("it connects")
socket.socket.connect = socket.getaddrinfo = connect
from tuneyard.checkpoints.safety.hub_access import disable_hub_access
disable_hub_access()
import datasets, evaluate, os, transformers, huggingface_hub
assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
try:
    transformers.AutoConfig.from_pretrained("openai/gpt-oss-20b", cache_dir="/nonexistent")
except OSError:
    pass
try:
    datasets.load_dataset("openai/gsm8k", cache_dir="/nonexistent")
except ConnectionError:
    pass
try:
    evaluate.load("squad_v2")
except FileNotFoundError:
    pass
try:
    huggingface_hub.hf_hub_download("openai/gpt-oss-20b", "config.json", cache_dir="/nonexistent")
except (huggingface_hub.errors.LocalEntryNotFoundError, huggingface_hub.errors.OfflineModeIsEnabled):
    print("refused")
"""


@pytest.mark.parametrize("before", ["", BEFORE])
def test_no_connection_is_made(before: str) -> None:
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", before + CODE], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "refused"
