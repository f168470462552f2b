"""OpenAI's SDKs in Python and Node.js, unmodified, through the fine-tuning API on real Ray: upload, job, streamed
events, chat with the result; batches; evals. Each script reports what it was answered, and both report the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client_list import FOLDER, INSTALLED, JAVASCRIPT, Client
from tests.harmony_text import encode_spelled_out
from tests.integration.platform_server import ALIAS, BASE, PlatformServer, platform_server

pytestmark = pytest.mark.clients

SDKS = (
    Client("openai-python", "openai", "openai3", "platform_python.py"),
    Client("openai-node", "openai", JAVASCRIPT, "platform_node.mjs"),
)
SERVED = "scripted"
CHATS = Path("jobs/data/brindle_train.jsonl")
ROWS = 8
TIMEOUT_S = 420


@pytest.fixture(scope="module")
def server(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformServer]:
    """One deployment for both SDKs, with a model that answers `ok`."""
    script = [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>ok<|return|>")]
    model = {
        "model_id": SERVED,
        "checkpoint": str(tiny_oss),
        "engine": {"engine": "scripted", "script": script},
        "replicas": {"num_cpus": 0.2},
    }
    with platform_server(tmp_path_factory.mktemp("platform"), tiny_oss, models=[model]) as running:
        yield running


@pytest.fixture(params=SDKS, ids=lambda sdk: sdk.name, scope="module")
def outcome(request: pytest.FixtureRequest, server: PlatformServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What an SDK's script reports, which runs with a key of its own."""
    sdk: Client = request.param
    chats = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    lines = CHATS.read_text(encoding="utf-8").splitlines()[:ROWS]
    chats.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if sdk.environment == JAVASCRIPT:
        # Node looks for packages beside the script.
        shutil.copy(FOLDER / "js_scripts" / sdk.script, INSTALLED / JAVASCRIPT)
    variables = {
        "BASE_URL": f"{server.root}/v1",
        "API_KEY": server.create_key(sdk.name),
        "TRAIN_FILE": str(chats),
        "BASE": ALIAS,
        "SERVED": SERVED,
    }
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    done = subprocess.run(
        sdk.command(), env=kept | variables, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{server.command.output[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_a_file_is_uploaded_in_parts(outcome: Any) -> None:
    assert outcome["upload"] == {
        "statuses": ["pending", "completed"],
        "text": '{"n": 1}\n{"n": 2}\n',
        "deleted": True,
    }


def test_a_batch_is_answered(outcome: Any) -> None:
    assert outcome["batch"] == {
        "status": "completed",
        "counts": {"total": 3, "completed": 3, "failed": 0},
        "metadata": {"by": "test"},
        "answers": [["a", "ok"], ["b", "ok"], ["c", "ok"]],
    }


def test_an_eval_is_run(outcome: Any) -> None:
    assert outcome["evaluate"] == {
        "status": "completed",
        "counts": [2, 1, 1],
        "items": [["ok", True, "ok"], ["no", False, "ok"]],
        "deleted": True,
    }


def test_a_job_is_followed_and_its_model_answers(outcome: Any, request: pytest.FixtureRequest) -> None:
    found = outcome["tune"]
    assert (found["statuses"], found["error"]) == (["validating_files", "succeeded"], None)
    language = request.node.callspec.params["outcome"].name.removeprefix("openai-")
    assert found["model"].startswith(f"ft:{BASE}:tuneyard:from-{language}:")
    assert found["last"] == "The job has successfully completed"
    assert found["listed"] == found["events"][::-1]
    assert found["steps"] == [1, 2]
    assert found["table"][0] == "step,train_loss"
    assert len(found["table"]) == 3
    assert found["checkpoints"] == [[2, found["model"]]]
    model, tokens, chunks = found["answer"]
    assert model == found["model"]
    assert tokens > 0
    assert chunks > 1
    assert sorted(found["models"]) == sorted([found["model"], SERVED])
    assert found["deleted"] is True
