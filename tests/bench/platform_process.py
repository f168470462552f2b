"""A program that serves the fine-tuning API without Ray and without its reconciler, with jobs and files in its store.

python -m tests.bench.platform_process FOLDER JOBS
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import uvicorn

from tests.bench.bases import TINY, base
from tests.integration.conftest import write_finetune_config
from tests.integration.platform_server import BASE
from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest, open_platform
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.core.ports import free_port
from tuneyard.storage.sql.location import SqlLocation

READY = "ready\n"
CHATS = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'


@contextlib.contextmanager
def served_platform(folder: Path, jobs: int) -> Iterator[tuple[psutil.Process, str]]:
    """The running program, and its URL."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(folder), str(jobs), str(port)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == READY
            yield psutil.Process(process.pid), f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def main() -> None:
    """Entry point."""
    folder, jobs, port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    bases = {BASE: {"config": str(write_finetune_config(folder, base(TINY)))}}
    location = SqlLocation(file=folder / "platform.db")
    with open_platform(location, folder, bases=bases, max_active_jobs_per_key=None) as platform:
        asyncio.run(serve(platform, jobs, port))


async def serve(platform: PlatformUnderTest, jobs: int, port: int) -> None:
    """Creates the jobs, each with a file of its own; then answers requests."""
    async with platform.sdk() as client:
        for number in range(jobs):
            file = await client.files.create(file=(f"{number}.jsonl", CHATS * 12), purpose="fine-tune")
            await client.fine_tuning.jobs.create(model=BASE, training_file=file.id, suffix=f"job-{number}")
    server = uvicorn.Server(uvicorn.Config(platform.api, port=port, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    sys.stdout.write(READY)
    sys.stdout.flush()
    await serving


if __name__ == "__main__":
    main()
