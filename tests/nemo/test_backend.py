"""NeMo as a TrainingBackend: the contract, and the same loss curve as transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.backend_contract import backend_config, check_contract, stored, token_rows
from tests.nemo.loss_curves import STEPS, train_both
from tuneyard.errors import ConfigError

pytestmark = [pytest.mark.nemo, pytest.mark.usefixtures("nemo_fixes")]

CURVE_TOLERANCE = 5e-4
"""nats; transformers rounds the losses that it logs to 1e-4."""


@pytest.mark.parametrize("method", ["full", "lora"])
def test_contract(tiny_fp32: Path, tmp_path: Path, method: str) -> None:
    asked = backend_config(tiny_fp32, name=method, backend="nemo", method=method, learning_rate=0.003)
    check_contract(asked, token_rows(tiny_fp32), tmp_path)


def test_both_backends_have_one_loss_curve(tiny_fp32: Path, tmp_path: Path) -> None:
    """Sinks, YaRN, windows and routing included."""
    losses = train_both(tiny_fp32, tmp_path)
    assert len(losses["nemo"]) == STEPS
    assert losses["nemo"] == pytest.approx(losses["transformers"], abs=CURVE_TOLERANCE)
    assert losses["nemo"][-1] < 0.6 * losses["nemo"][0]


def test_the_recipe_runs_without_ray(tiny_fp32: Path, tmp_path: Path) -> None:
    """As the seed has it: run.run(recipe, direct=True); in a process of its own, which NeMo sets up. None held out."""
    asked = backend_config(
        tiny_fp32, name="direct", backend="nemo", method="lora", max_steps=2, checkpoint_every_steps=1
    )
    asked = asked.model_copy(update={"data": asked.data.model_copy(update={"heldout": None})})
    (tmp_path / "config.json").write_text(asked.model_dump_json())
    tokens = stored(token_rows(tiny_fp32), tmp_path / "tokens")
    code = (
        "import sys, pathlib, nemo_run as run\n"
        "from jobs.import_checkpoint import import_checkpoint\n"
        "from jobs.nemo_folders import checkpoint_folder, nemo_base, written_checkpoints\n"
        "from jobs.nemo_recipe import build_recipe\n"
        "from jobs.training_backend import TokenFiles\n"
        "from tuneyard.finetune_config import FinetuneConfig\n"
        "if __name__ == '__main__':\n"
        "    config = FinetuneConfig.model_validate_json(pathlib.Path(sys.argv[1]).read_text())\n"
        "    tokens = TokenFiles(pathlib.Path(sys.argv[2]), None)\n"
        "    if not nemo_base(config).exists():\n"
        "        import_checkpoint(f'hf://{config.model.base}', nemo_base(config))\n"
        "    run.run(build_recipe(config, tokens), direct=True)\n"
        "    print('WRITTEN', [p.name for p in checkpoint_folder(config).rglob('weights')])\n"
    )
    script = tmp_path / "direct.py"
    script.write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], "platform", "."])}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path / "config.json"), str(tokens.train)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "WRITTEN ['weights'" in ended.stdout


def test_parallelism_that_cannot_run_is_refused_before_the_base_is_touched(tiny_fp32: Path) -> None:
    from jobs.nemo_recipe import build_recipe

    asked = backend_config(tiny_fp32, backend="nemo")
    asked = asked.model_copy(update={"nemo": asked.nemo.model_copy(update={"expert_parallel": 3})})
    with pytest.raises(ConfigError, match=r"1 workers are no multiple of expert 3"):
        build_recipe(asked)
