"""A disk that is full during the export: the error says so, and no incomplete file remains."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Finetuned
from tests.integration.processes import CHECKOUT

pytestmark = pytest.mark.integration

EXPORT = """
import sys
from pathlib import Path
from jobs.workers.backend_factory import create_backend
from jobs.checkpoints.proved_export import export_and_prove
from tuneyard.core.command import run_command
from tuneyard.configs.finetune import FinetuneConfig

run, trained, target = map(Path, sys.argv[1:])
config = FinetuneConfig.model_validate_json((run / "config.json").read_text())
row = {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "position_ids": [0, 1, 2], "segment_ids": [0, 0, 0]}
code = run_command(lambda: export_and_prove(create_backend(config), config, trained, str(target), [row], {}))
remaining = sorted(str(path) for path in target.parent.rglob("*"))
print("remaining files:", remaining)
sys.exit(code)
"""
MOUNT_AND_RUN = 'mount -t tmpfs -o size=64k small "$1" && shift && exec "$@"'


def run_on_small_disk(disk: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in its own mount namespace, with a disk of 64 KiB mounted at `disk`."""
    disk.mkdir()
    environment = os.environ | {"PYTHONPATH": f"platform{os.pathsep}."}
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNT_AND_RUN, "sh", str(disk), *command],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_full_disk_is_reported_and_incomplete_files_are_removed(finetuned: Finetuned, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or run_on_small_disk(tmp_path / "probe", "true").returncode:
        pytest.skip("mounting the small disk needs Linux with user namespaces")
    run = finetuned.home / "runs" / "tiny"
    trained = max(path for path in run.glob("ray_train/checkpoint_*") if path.is_dir())
    disk = tmp_path / "disk"
    finished = run_on_small_disk(disk, sys.executable, "-c", EXPORT, str(run), str(trained), str(disk / "1"))
    assert finished.returncode == 1, finished
    assert "has no space for the checkpoint 1 (0 MiB free). All incomplete files were removed." in finished.stderr
    assert "Traceback" not in finished.stderr
    assert "remaining files: []" in finished.stdout
