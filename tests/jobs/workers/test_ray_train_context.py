"""Scratch folders of workers: those that killed workers left are removed, by several new workers at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.workers.ray_train_context import WORK_DIR_PREFIX, remove_work_dirs_of_dead_workers

WORKERS = 8


def dead_pid() -> int:
    """The process id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_new_workers_of_a_node_remove_what_killed_ones_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks at the same folders, which another one may remove meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pid = dead_pid()
    alive = tmp_path / f"{WORK_DIR_PREFIX}{os.getpid()}-alive"
    alive.mkdir()
    for number in range(300):
        (tmp_path / f"{WORK_DIR_PREFIX}{pid}-{number}").mkdir()
    with ThreadPoolExecutor(WORKERS) as pool:
        for future in [pool.submit(remove_work_dirs_of_dead_workers) for _ in range(WORKERS)]:
            future.result()
    assert list(tmp_path.iterdir()) == [alive]
