"""A disk that fills up during the export: an error that says so, and no checkpoint, not even half of one."""

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
from jobs.runs.backend_factory import create_backend
from jobs.checkpoints.proved_export import export_and_prove
from tuneyard.core.command import run_command
from tuneyard.configs.finetune import FinetuneConfig

run, trained, target = map(Path, sys.argv[1:])
config = FinetuneConfig.model_validate_json((run / "config.json").read_text())
row = {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "position_ids": [0, 1, 2], "segment_ids": [0, 0, 0]}
code = run_command(lambda: export_and_prove(create_backend(config), config, trained, str(target), [row], {}))
left = sorted(str(path) for path in target.parent.rglob("*"))
print("left:", left)
sys.exit(code)
"""
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=64k small "$1" && shift && exec "$@"'


def on_a_small_disk(disk: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that sees 64 KiB of memory mounted at `disk`, in a mount namespace of its own."""
    disk.mkdir()
    environment = os.environ | {"PYTHONPATH": f"platform{os.pathsep}."}
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", str(disk), *command],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_nothing_half_written_is_left(finetuned: Finetuned, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or on_a_small_disk(tmp_path / "probe", "true").returncode:
        pytest.skip("mounting a small disk needs Linux with user namespaces")
    run = finetuned.home / "runs" / "tiny"
    trained = max(path for path in run.glob("ray_train/checkpoint_*") if path.is_dir())
    disk = tmp_path / "disk"
    ended = on_a_small_disk(disk, sys.executable, "-c", EXPORT, str(run), str(trained), str(disk / "1"))
    assert ended.returncode == 1, ended
    assert "no room for the checkpoint 1 (0 MiB free). Nothing half-written was left." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "left: []" in ended.stdout
