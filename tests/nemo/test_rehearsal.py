"""`tuneyard jobs rehearse` of the shipped configs: NeMo in several processes, on CPUs behind the shim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import run
from tests.nemo.recipe_table import CONFIGS

pytestmark = pytest.mark.nemo

STORAGE = "run.storage=/srv/tuneyard"
"""A folder that all nodes could share. The rehearsal writes nothing there."""

STEPS = ["import", "train", "checkpoint", "resume", "export", "register", "serve"]


def rehearse(folder: Path, name: str, *overrides: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, report and output of a rehearsal of a shipped config."""
    options = [option for override in (STORAGE, *overrides) for option in ("--set", override)]
    config = f"jobs/configs/{name}.yaml"
    code, output = run(
        folder, folder / "home", "-m", "tuneyard.cli.main", "jobs", "rehearse", config, "--json", *options
    )
    lines = output.splitlines()
    report: dict[str, Any] = json.loads("\n".join(lines[lines.index("{") :]))
    return code, report, output


@pytest.mark.parametrize(
    "name",
    [name if name == "gpt_oss_20b_lora" else pytest.param(name, marks=pytest.mark.long) for name in CONFIGS],
)
def test_a_shipped_config_passes(name: str, tmp_path: Path) -> None:
    code, report, output = rehearse(tmp_path, name)
    assert code == 0, output
    steps = {step["name"]: step for step in report["steps"]}
    assert [name for name, step in steps.items() if step["status"] != "passed"] == ["base"]
    assert list(steps)[-len(STEPS) :] == STEPS
    assert "a worker was killed; the run continued from the checkpoint of step" in steps["resume"]["text"]
    assert "experts in MXFP4" in steps["small model"]["text"]


def test_a_loss_that_is_not_finite_is_found_in_training(tmp_path: Path) -> None:
    code, report, output = rehearse(
        tmp_path, "gpt_oss_20b_lora", "training.learning_rate=1e30", "workers.num_workers=1", "data.heldout=null"
    )
    assert code == 1, output
    assert report["failed_step"] in ("train", "checkpoint")
    assert "Lower training.learning_rate" in output
