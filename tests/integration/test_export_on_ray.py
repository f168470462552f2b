"""jobs.export: an intermediate checkpoint of a run is exported, proved and registered, and the run stays as it is."""

from __future__ import annotations

import json

import pytest

from tests.integration.conftest import Finetuned
from tests.integration.processes import run
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.checkpoints.validation import validate_hf_checkpoint

pytestmark = pytest.mark.integration


def test_an_intermediate_checkpoint_is_exported(finetuned: Finetuned) -> None:
    folder = finetuned.home / "runs" / "tiny"
    before = (folder / "run.json").read_bytes()
    snapshot = json.loads((folder / "ray_train" / "checkpoint_manager_snapshot.json").read_text())
    earliest = min(snapshot["checkpoint_results"], key=lambda result: result["metrics"]["step"])
    checkpoint = folder / "ray_train" / earliest["checkpoint_dir_name"]
    command = ("-m", "jobs.export", str(checkpoint), "--address", "local")
    config = ("--config", str(finetuned.config), "--set", "run.model_name=draft")
    code, output = run(finetuned.folder, finetuned.home, *command, *config)
    assert code == 0, output
    assert "registered draft/1 (@newest)" in output
    version = ModelRegistry(finetuned.home).find("draft/1")
    manifest = validate_hf_checkpoint(finetuned.home / "models" / "draft" / "1")
    assert manifest.metrics["step"] == earliest["metrics"]["step"] < 12
    assert version.tags["weights_digest"] == manifest.digest != finetuned.manifest.digest
    assert manifest.codec == finetuned.manifest.codec
    assert manifest.parity == finetuned.manifest.parity
    assert (folder / "run.json").read_bytes() == before
