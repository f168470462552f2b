"""jobs.export: an intermediate checkpoint of a run is exported, proved and registered, and the run stays as it is.

As a merged model and as an adapter, which is merged later.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import STEPS, Finetuned
from tests.integration.processes import run
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.checkpoints.validation import validate_adapter, validate_hf_checkpoint

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
    # Not token by token: the system message holds the day of the export, and midnight may lie between the two.
    questions, earlier = ([prompt["messages"] for prompt in m.parity] for m in (manifest, finetuned.manifest))
    assert questions == earlier != []
    assert (folder / "run.json").read_bytes() == before


def test_an_adapter_is_exported_and_merged_later(finetuned: Finetuned, tiny_oss: Path) -> None:
    """The merged adapter has the very weights of the run's own export; `@newest` of the model does not move before."""
    registry = ModelRegistry(finetuned.home)
    before = registry.aliases("tiny-support")
    run_folder = finetuned.home / "runs" / "tiny"
    command = ("-m", "jobs.export", str(run_folder), "--form", "adapter", "--address", "local")
    code, output = run(finetuned.folder, finetuned.home, *command)
    assert code == 0, output
    assert "registered tiny-support-adapter/1 (@newest)" in output
    assert registry.aliases("tiny-support") == before
    assert registry.find("tiny-support-adapter@newest").tags["kind"] == "adapter"
    folder = finetuned.home / "models" / "tiny-support-adapter" / "1"
    manifest = validate_adapter(folder, tiny_oss)
    assert manifest.metrics["step"] == STEPS
    assert manifest.dataset == finetuned.manifest.dataset
    code, output = run(finetuned.folder, finetuned.home, *command[:2], str(folder), *command[3:])
    assert code == 1
    assert "is an adapter already. Leave out --form adapter" in output
    # Under another name, because other tests read the run's own versions.
    config = ("--config", str(finetuned.config), "--set", "run.model_name=merged-later", "--address", "local")
    code, output = run(finetuned.folder, finetuned.home, "-m", "jobs.export", str(folder), *config)
    assert code == 0, output
    merged = validate_hf_checkpoint(finetuned.home / "models" / "merged-later" / "1", tiny_oss)
    assert merged.digest == finetuned.manifest.digest
    assert merged.run_id == finetuned.manifest.run_id
