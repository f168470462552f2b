"""Each request of a batch has one result, though the processes that work on it are killed at random moments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.serve_apps.platform_app.batches.batch_work_setup import Power, Process, create, read_lines, row

ROOT = Path(__file__).parents[4]
KILLS, BATCHES, ROWS = 12, 3, 150


async def test_every_request_has_one_result_after_kill_9(tmp_path: Path) -> None:
    process = Process(tmp_path, Power(), time.time)
    plans = ("ok", "refuse", "busy", "broken")
    ids = [
        await create(process, f"owner{b}", [row(f"{b}-{n}", plans[n % len(plans)]) for n in range(ROWS)])
        for b in range(BATCHES)
    ]
    program = "tests.serve_apps.platform_app.batches.killed_worker"
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [sys.executable, "-m", program, str(tmp_path), str(KILLS), "7"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    endings = json.loads(run.stdout)
    assert endings.count(-signal.SIGKILL) >= KILLS / 2, "most processes were killed while they worked"
    for number, batch_id in enumerate(ids):
        owner = f"owner{number}"
        batch = (await process.database.run(process.store.find, owner, batch_id)).as_object()
        outputs = await read_lines(process, owner, batch.output_file_id)
        errors = await read_lines(process, owner, batch.error_file_id)
        assert batch.status == "completed"
        assert sorted(line["custom_id"] for line in (*outputs, *errors)) == sorted(f"{number}-{n}" for n in range(ROWS))
        counts = batch.request_counts
        assert (counts.completed, counts.failed, counts.total) == (len(outputs), len(errors), ROWS)
        assert len(errors) == len(range(1, ROWS, len(plans)))
    left = sorted(path.name for path in (tmp_path / "files").rglob("*.jsonl"))
    assert len(left) == 3 * BATCHES, left
    await process.close()
