"""The recipe under NeMo-Run: each process that it starts has the fixes, without importing anything by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.training.backend_contract import backend_config, stored, token_rows

pytestmark = [pytest.mark.nemo, pytest.mark.usefixtures("nemo_fixes")]

SCRIPT = """\
import pathlib
import sys

import nemo_run as run

from jobs.nemo.checkpoint_folders import checkpoint_folder, nemo_base
from jobs.nemo.checkpoint_import import import_checkpoint
from jobs.nemo_recipe import build_recipe
from jobs.training.backend import TokenFiles
from tuneyard.configs.finetune import FinetuneConfig

if __name__ == "__main__":
    config = FinetuneConfig.model_validate_json(pathlib.Path(sys.argv[1]).read_text())
    if not nemo_base(config).exists():
        import_checkpoint(f"hf://{config.model.folder}", nemo_base(config))
    recipe = build_recipe(config, TokenFiles(pathlib.Path(sys.argv[2]), None))
    if sys.argv[3] == "direct":
        run.run(recipe, direct=True)
    else:
        executor = run.LocalExecutor(ntasks_per_node=config.workers.num_workers, launcher="torchrun")
        run.run(recipe, executor=executor, name="finetune", tail_logs=True)
    print("WRITTEN", sorted(p.parent.name for p in checkpoint_folder(config).rglob("weights")))
"""


@pytest.mark.parametrize(("launcher", "workers"), [("direct", 1), ("torchrun", 2)])
def test_the_recipe_runs_without_ray(launcher: str, workers: int, tiny_fp32: Path, tmp_path: Path) -> None:
    """In processes that NeMo-Run starts and NeMo sets up, and without held-out data."""
    from jobs.nemo.base_import import GROUP_VARIABLES

    config = backend_config(
        tiny_fp32, name=launcher, backend="nemo", method="lora", max_steps=2, checkpoint_every_steps=1
    )
    config = config.model_copy(
        update={
            "data": config.data.model_copy(update={"heldout": None}),
            "workers": config.workers.model_copy(update={"num_workers": workers}),
        }
    )
    (tmp_path / "config.json").write_text(config.model_dump_json())
    tokens = stored(token_rows(tiny_fp32), tmp_path / "tokens")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    # Earlier tests have created a process group in this process.
    outside = {name: value for name, value in os.environ.items() if name not in GROUP_VARIABLES}
    environment = outside | {
        # As in an activated environment: NeMo-Run starts `torchrun` by its name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "NEMORUN_HOME": str(tmp_path / "nemo_run"),
        "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(Path("platform").absolute()), str(Path.cwd())]),
    }
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path / "config.json"), str(tokens.train), launcher],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "WRITTEN ['" in ended.stdout, ended.stdout[-3000:] + ended.stderr[-6000:]
