"""GPT-OSS as it is published, with MXFP4 experts: trained from, exported in bf16, proved, and nothing stale left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.checkpoints.proved_export import export_and_prove
from jobs.workers.backend_factory import create_backend
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored, token_rows
from tests.mxfp4_base import publish_mxfp4
from tuneyard.checkpoints.manifest import BaseReference
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.tensor_table import weights_digest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError
from tuneyard.training_data.token_table import TOKEN_COLUMNS


@pytest.fixture(scope="module")
def published(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("published") / "mxfp4"
    publish_mxfp4(tiny_oss, target)
    return target


def export(published: Path, tmp_path: Path, trained: Path, method: str) -> Any:
    probes = token_rows(published).rows.slice(0, 3).select(list(TOKEN_COLUMNS)).to_pylist()
    lineage = {"base": BaseReference(name="mxfp4", digest=weights_digest(published))}
    config = backend_config(published, method=method)
    return export_and_prove(create_backend(config), config, trained, str(tmp_path / "models" / "1"), probes, lineage)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_mxfp4_base_is_trained_and_exported(published: Path, tmp_path: Path, method: str) -> None:
    config = backend_config(published, method=method)
    context = RecordingContext(tmp_path / "run")
    create_backend(config).train(config, stored(token_rows(published), tmp_path / "tokens"), context)
    assert context.losses[-1] < context.losses[0]
    manifest = export(published, tmp_path, context.checkpoints[-1], method)
    assert manifest.proof["mean_kl"] < 0.01
    folder = tmp_path / "models" / "1"
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert not [name for name in manifest.tensors if name.endswith(("_blocks", "_scales"))]
    validate_hf_checkpoint(folder, base=published)


def test_a_silent_no_op_is_seen_through_the_other_form(published: Path, tiny_oss: Path, tmp_path: Path) -> None:
    """An export that holds the base's own weights: all that can be compared with the MXFP4 base is equal to it."""
    export = Path(shutil.copytree(tiny_oss, tmp_path / "export"))
    (export / "manifest.json").unlink()
    reference = BaseReference(name="mxfp4", digest=weights_digest(published))
    write_manifest(export, kind="finetuned", name="m", version="1", base=reference)
    with pytest.raises(CheckpointError, match=r"the training was a silent no-op"):
        validate_hf_checkpoint(export, base=published)
