"""A reconciler as a process of its own, for test_crashes; its arguments are a folder and a checkpoint."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.serve_apps.platform_app.evals.conftest import write
from tests.serve_apps.platform_app.evals.eval_server import EvalServer

TOKEN_INTERVAL_S = 0.05


async def main() -> None:
    """Works until no run has work left."""
    folder, checkpoint = map(Path, sys.argv[1:])
    server = EvalServer(folder, checkpoint, {"writer": write}, token_interval_s=TOKEN_INTERVAL_S)
    await server.work()
    await server.close()


if __name__ == "__main__":
    asyncio.run(main())
