"""A reconciler as a process of its own, for test_crashes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.serve_apps.platform_app.evals.conftest import write
from tests.serve_apps.platform_app.evals.eval_server import EvalServer

TOKEN_INTERVAL_S = 0.02


def work(folder: Path, checkpoint: Path) -> None:
    """Works until no run has work left."""
    asyncio.run(_work(folder, checkpoint))


async def _work(folder: Path, checkpoint: Path) -> None:
    server = EvalServer(folder, checkpoint, {"writer": write}, token_interval_s=TOKEN_INTERVAL_S)
    await server.work()
    await server.close()
