"""An EvalServer with the models `writer` and `judge`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.serve_apps.platform_app.evals.eval_server import EvalServer, last_user_text

LABELS = {"monitor": "Hardware", "vim": "Software"}


def write(prompt: str) -> str:
    """The label of a support ticket, by a word in it."""
    text = last_user_text(prompt)
    return next((label for word, label in LABELS.items() if word in text), "Other")


def judge(prompt: str) -> str:
    """A grade: 0.75, or the label `good`, for texts that mention hardware."""
    is_hardware = "Hardware" in last_user_text(prompt)
    result = (0.75 if is_hardware else 0.25) if "## score" in prompt else ("good" if is_hardware else "bad")
    return json.dumps({"steps": [{"description": "read", "conclusion": "done"}], "result": result})


@pytest.fixture
async def server(tmp_path: Path, tiny_oss: Path) -> AsyncIterator[EvalServer]:
    server = EvalServer(tmp_path, tiny_oss, {"writer": write, "judge": judge})
    yield server
    await server.close()
