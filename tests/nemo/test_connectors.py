"""Import and export: logits equal those of transformers and of OpenAI's reference; tensors survive bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from jobs.checkpoints.openai_export import export_openai
from jobs.nemo.checkpoint_import import import_checkpoint, parse_source
from tests.mxfp4_base import PublishedBase
from tuneyard.checkpoints.safety.written_folders import check_written_folder
from tuneyard.core.errors import CheckpointError, ClusterError

pytestmark = pytest.mark.nemo

LENGTH = 96
"""Tokens per prompt: six attention windows, so that windowed and full attention give different results."""


def prompt(seed: int = 0) -> torch.Tensor:
    return torch.randint(9, 1024, (1, LENGTH), generator=torch.Generator().manual_seed(seed))


def nemo_logits(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    """fp32 logits [tokens, vocabulary] of a NeMo 2 checkpoint, from Megatron's forward pass."""
    from jobs.nemo.connectors.hf_exporter import HFExporter

    model, _ = HFExporter(str(folder)).nemo_load(str(folder))
    module = model.float().eval()
    with torch.no_grad():  # not inference_mode: Megatron caches masks, and training could not use inference tensors
        logits = module(tokens, torch.arange(tokens.shape[1])[None], attention_mask=None)
    return logits[0].float()


def hf_logits(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    model = transformers.GptOssForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.inference_mode():
        return model.eval()(tokens).logits[0]


def test_imported_logits_are_transformers(imported: Path, tiny_fp32: Path) -> None:
    """On a model whose sinks, YaRN, windows and sparse routing have an effect, with prompts longer than the window."""
    for seed in range(3):
        ours, theirs = nemo_logits(imported, prompt(seed)), hf_logits(tiny_fp32, prompt(seed))
        assert theirs.std() > 0.5
        assert (ours - theirs).abs().max() <= 1e-4


def test_export_gives_every_tensor_back(imported: Path, tiny_fp32: Path, tmp_path: Path) -> None:
    from nemo.collections import llm

    llm.export_ckpt(path=imported, target="hf", output_path=tmp_path / "hf")
    exported, base = (load_file(folder / "model.safetensors") for folder in (tmp_path / "hf", tiny_fp32))
    assert exported.keys() == base.keys()
    assert all(torch.equal(exported[name], base[name]) for name in base)
    assert (hf_logits(tmp_path / "hf", prompt()) - hf_logits(tiny_fp32, prompt())).abs().max() <= 1e-6


@pytest.mark.usefixtures("nemo_fixes")
def test_mxfp4_weights_are_the_dequantised_model(published_base: PublishedBase, tmp_path: Path) -> None:
    """hf:// and openai:// sources as published, against transformers and OpenAI's reference (package gpt-oss)."""
    published, original = published_base.adopted, tmp_path / "original"
    export_openai(published, original)
    dequantised = transformers.GptOssForCausalLM.from_pretrained(
        published, quantization_config=transformers.Mxfp4Config(dequantize=True), attn_implementation="eager"
    )
    with torch.no_grad():
        theirs = dequantised.float().eval()(prompt()).logits[0]
    assert theirs.std() > 0.5
    for source in (f"hf://{published}", f"openai://{original}"):
        imported = tmp_path / source[:2]
        import_checkpoint(source, imported)
        ours = nemo_logits(imported, prompt())
        assert (ours - theirs).abs().max() <= 1e-4
    assert (ours - reference_logits(original, prompt())).abs().max() <= 1e-3


def reference_logits(original: Path, tokens: torch.Tensor) -> torch.Tensor:
    from gpt_oss.torch.model import Transformer

    model: Any = Transformer.from_checkpoint(str(original), device="cpu")
    with torch.inference_mode():
        logits: torch.Tensor = model.float()(tokens[0])
    return logits.float()


def test_weights_are_not_copied_into_the_context(imported: Path) -> None:
    assert not list((imported / "context").rglob("*.safetensors"))
    assert list((imported / "context").rglob("tokenizer.json"))


def test_an_import_never_overwrites_and_leaves_nothing_incomplete(imported: Path, tiny_fp32: Path) -> None:
    with pytest.raises(CheckpointError, match="already exists, and checkpoints are never overwritten"):
        import_checkpoint(f"hf://{tiny_fp32}", imported)
    assert {path.name for path in imported.parent.iterdir()} == {"tiny", ".tiny.digests.json"}
    check_written_folder(imported)


@pytest.mark.usefixtures("nemo_fixes")
def test_an_import_beyond_this_machines_memory_reads_nothing(
    tiny_fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.nemo.setup import import_memory

    monkeypatch.setattr(import_memory, "available_bytes", lambda: 1000)
    with pytest.raises(ClusterError, match="takes about 0 GiB of main memory, and this machine has 0 GiB left"):
        import_checkpoint(f"hf://{tiny_fp32}", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["s3://bucket/x", "/plain/folder", "hf:///nowhere"])
def test_an_invalid_source_is_refused(source: str) -> None:
    with pytest.raises(CheckpointError, match=r"Give hf://FOLDER|does not contain a checkpoint"):
        parse_source(source)
