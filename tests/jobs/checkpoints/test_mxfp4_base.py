"""GPT-OSS as it is published, with MXFP4 experts: trained from, exported in bf16, proved, and nothing stale left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.checkpoints.probe_rows import PROBE_PLACES
from jobs.checkpoints.proved_export import export_and_prove
from jobs.checkpoints.published_weights import write_published_weights
from jobs.training.export.hf_files import save_like_base
from jobs.training.model_loading import load_dequantised
from jobs.workers.backend_factory import create_backend
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored, token_rows
from tests.mxfp4_base import SMALL_SIZES, PublishedBase, publish_mxfp4
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
    probes = token_rows(published).rows.select(list(TOKEN_COLUMNS)).to_pylist()
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
    # Of 1,000 labelled places or more. All logits of long rows would take more memory than a node has.
    assert manifest.proof["positions"] == PROBE_PLACES
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


@pytest.mark.parametrize("form", ["unquantised", "adopted"])
def test_an_export_has_the_form_of_its_base(form: str, published_base: PublishedBase, tmp_path: Path) -> None:
    """Its base's dtypes, which no published config names, and all ids at which generation ends."""
    base: Path = getattr(published_base, form)
    model = load_dequantised(base, torch.float32, on_gpu=False)
    target = tmp_path / "export"
    target.mkdir()
    save_like_base(model, base, target)
    written, source = (json.loads((folder / "config.json").read_text()) for folder in (target, base))
    assert "dtype" not in source
    assert {**source, "dtype": "bfloat16"} == {
        **written,
        **{k: source[k] for k in source if k == "quantization_config"},
    }
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (target / name).read_bytes() == (base / name).read_bytes()
    manifest = write_manifest(target, kind="finetuned", name="m", version="1")
    assert {entry.dtype for entry in manifest.tensors.values()} == {"BF16"}
    assert len(json.loads((target / "generation_config.json").read_text())["eos_token_id"]) == 3


def test_a_published_base_survives_export_and_quantisation(published_base: PublishedBase, tmp_path: Path) -> None:
    """Every weight, as after training of attention alone: in transformers, in an export, and in MXFP4 again."""
    base = published_base.adopted
    model = load_dequantised(base, torch.float32, on_gpu=False)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    (tmp_path / "export").mkdir()
    save_like_base(model, base, tmp_path / "export")
    write_published_weights(tmp_path / "export", tmp_path / "again")
    again = load_dequantised(tmp_path / "again", torch.float32, on_gpu=False).state_dict()
    assert again.keys() == weights.keys()
    assert [name for name, weight in weights.items() if not torch.equal(weight, again[name])] == []
    assert (
        len({name.split(".")[2] for name in weights if ".layers." in name})
        == SMALL_SIZES[published_base.size]["num_hidden_layers"]
    )


def test_norms_in_fp32_stay_fp32(tiny_oss_copy: Path, tmp_path: Path) -> None:
    """As transformers writes them for some models: each tensor has the dtype of its own counterpart in the base."""
    tensors = load_file(tiny_oss_copy / "model.safetensors")
    norms = {name for name in tensors if name.endswith("norm.weight")}
    save_file({n: t.float() if n in norms else t for n, t in tensors.items()}, tiny_oss_copy / "model.safetensors")
    write_manifest(tiny_oss_copy, kind="base", name="b", version="1")
    target = tmp_path / "export"
    target.mkdir()
    model = load_dequantised(tiny_oss_copy, torch.float32, on_gpu=False)
    model.lm_head.weight.data.add_(1.0)
    save_like_base(model, tiny_oss_copy, target)
    write_manifest(target, kind="finetuned", name="m", version="1")
    manifest = validate_hf_checkpoint(target, base=tiny_oss_copy)
    assert {name for name, entry in manifest.tensors.items() if entry.dtype == "F32"} == norms


def test_a_generation_config_that_transformers_would_not_write(tiny_oss_copy: Path, tmp_path: Path) -> None:
    """transformers loads a temperature without sampling, and refuses to write it."""
    path = tiny_oss_copy / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_sample": False, "temperature": 0.6}))
    target = tmp_path / "export"
    target.mkdir()
    save_like_base(load_dequantised(tiny_oss_copy, torch.float32, on_gpu=False), tiny_oss_copy, target)
    assert (target / "generation_config.json").read_bytes() == path.read_bytes()
