"""A program that works on batches in processes of its own, and kills each with SIGKILL at a random moment.

    python -m tests.serve_apps.platform_app.batches.killed_worker FOLDER KILLS SEED

The last process is let alone. Prints as JSON how many processes were killed and how they ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from serve_apps.platform_app.batches.execution import batch_work, result_writer, row_answers
from tests.serve_apps.platform_app.batches.batch_work_setup import Power, Process, work_until_done

DELAY_S = 0.01
"""The longest answer of the model."""


async def work(folder: Path) -> None:
    process = Process(folder, Power(), time.time, delay_s=DELAY_S)
    await work_until_done(process, time.time, limit_s=60)
    await process.close()


def main() -> None:
    """Entry point."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    result_writer.INTERVAL_S, batch_work.FIRST_DELAY_S = 0.02, 0.0
    row_answers.BUSY_WAIT_S, row_answers.FAILURE_WAIT_S = 0.005, 0.005
    dice = random.Random(seed)
    endings: list[int] = []
    while True:
        child = os.fork()
        if not child:
            try:
                asyncio.run(work(folder))
            finally:
                os._exit(0)
        if len(endings) < kills:
            time.sleep(dice.uniform(0.02, 0.25))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        endings.append(os.waitstatus_to_exitcode(status))
        if len(endings) > kills:
            print(json.dumps(endings))
            return


if __name__ == "__main__":
    main()
