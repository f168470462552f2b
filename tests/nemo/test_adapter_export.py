"""NeMo's LoRA adapters as PEFT's files: stock PEFT computes with them what NeMo's model computes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from jobs.training.logit_proof import compare_logits
from jobs.workers.backend_factory import create_backend
from tests.integration.processes import CHECKOUT
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored, token_rows
from tuneyard.core.errors import CheckpointError
from tuneyard.training_data.token_table import TOKEN_COLUMNS

pytestmark = [pytest.mark.nemo, pytest.mark.usefixtures("nemo_fixes")]

DEFAULT_PYTHON = CHECKOUT / ".venv" / "bin" / "python"

IN_DEFAULT_ENVIRONMENT = """\
import sys
from pathlib import Path

import numpy as np
import peft
import torch

from jobs.training.label_logits import label_logits
from jobs.training.model_loading import TRANSFORMERS_4, load_dequantised
from tests.jobs.training.backend_contract import token_rows
from tuneyard.training_data.token_table import TOKEN_COLUMNS

base, adapter, result = map(Path, sys.argv[1:])
assert not TRANSFORMERS_4
model = peft.PeftModel.from_pretrained(load_dequantised(base, torch.float32, on_gpu=False), adapter).eval()
rows = token_rows(base).rows.slice(0, 3).select(list(TOKEN_COLUMNS)).to_pylist()
np.savez(result, *label_logits(model, rows))
"""


@pytest.fixture(scope="module")
def exported(nemo_fixes: list[str], tiny_fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run's config, its checkpoint, the exported adapter, and the logits of NeMo's model."""
    assert nemo_fixes
    folder = tmp_path_factory.mktemp("adapter")
    lora = {"rank": 8, "alpha": 24, "dropout": 0.1}
    config = backend_config(tiny_fp32, name="adapter", backend="nemo", method="lora", lora=lora)
    context = RecordingContext(folder / "run")
    create_backend(config).train(config, stored(token_rows(tiny_fp32), folder / "tokens"), context)
    target = folder / "adapter"
    target.mkdir()
    logits = create_backend(config).export_adapter(config, context.checkpoints[-1], target, probe_rows(tiny_fp32))
    return config, context.checkpoints[-1], target, logits


def adapted_logits(base: Path, adapter: Path) -> list[np.ndarray]:
    from jobs.training.label_logits import label_logits
    from jobs.training.model_loading import load_dequantised

    model = peft.PeftModel.from_pretrained(load_dequantised(base, torch.float32, on_gpu=False), adapter)
    return label_logits(model.eval(), probe_rows(base))


def probe_rows(base: Path) -> list[dict[str, list[int]]]:
    rows: list[dict[str, list[int]]] = token_rows(base).rows.slice(0, 3).select(list(TOKEN_COLUMNS)).to_pylist()
    return rows


def test_stock_peft_computes_the_same(exported: Any, tiny_fp32: Path) -> None:
    from jobs.training.label_logits import label_logits
    from jobs.training.model_loading import load_dequantised

    config, _, adapter, trained = exported
    written = peft.PeftConfig.from_pretrained(adapter)
    lora = config.training.lora
    assert (written.r, written.lora_alpha, written.lora_dropout) == (lora.rank, lora.alpha, lora.dropout)
    plain = label_logits(load_dequantised(tiny_fp32, torch.float32, on_gpu=False).eval(), probe_rows(tiny_fp32))
    proof = compare_logits(trained, adapted_logits(tiny_fp32, adapter))
    assert proof["mean_kl"] < 1e-6
    assert proof["top1_agreement"] == 1
    assert compare_logits(trained, plain)["mean_kl"] > 0.05


def test_the_logits_to_compare_with_are_not_in_tf32(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, where TransformerEngine would take TF32."""
    config, checkpoint, _, _ = exported
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    torch.backends.cuda.matmul.allow_tf32 = True
    create_backend(config).export_adapter(config, checkpoint, tmp_path, [])
    assert os.environ.get("NVIDIA_TF32_OVERRIDE") == "0"
    assert not torch.backends.cuda.matmul.allow_tf32


def test_adapters_on_some_layers_and_projections(imported: Path, tiny_fp32: Path, tmp_path: Path) -> None:
    from nemo.collections.llm.peft.lora import LoRA

    from jobs.nemo.connectors.hf_exporter import HFExporter
    from jobs.nemo.connectors.lora_adapters import peft_adapter
    from jobs.nemo.export import label_logits
    from jobs.training.export.adapter_files import write_adapter

    model, trainer = HFExporter(str(imported)).nemo_load(imported)
    model.trainer = trainer
    LoRA(target_modules=["*.layers.0.*.linear_proj", "*.layers.1.*.linear_qkv"], dim=4, alpha=8)(model)
    for name, weight in model.named_parameters():
        if ".adapter." in name:  # a model that is loaded for export leaves new weights uninitialised
            torch.nn.init.normal_(weight, std=0.5)
    trained = label_logits(model.float().eval(), probe_rows(tiny_fp32))
    write_adapter(*peft_adapter(model), tmp_path)
    assert sorted(peft.PeftConfig.from_pretrained(tmp_path).target_modules) == [
        "layers.0.self_attn.o_proj",
        *(f"layers.1.self_attn.{name}_proj" for name in "kqv"),
    ]
    proof = compare_logits(trained, adapted_logits(tiny_fp32, tmp_path))
    assert proof["mean_kl"] < 1e-6
    assert proof["top1_agreement"] == 1


def test_each_weight_changes_as_in_the_merged_export(exported: Any, tiny_fp32: Path, tmp_path: Path) -> None:
    config, checkpoint, adapter, _ = exported
    create_backend(config).export_hf(config, checkpoint, tmp_path, [])
    merged, base = load_file(tmp_path / "model.safetensors"), load_file(tiny_fp32 / "model.safetensors")
    tensors = load_file(adapter / "adapter_model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    adapted = {name.removeprefix("base_model.model.").replace("lora_A.", "") for name in tensors if "lora_A" in name}
    assert changed == adapted
    assert len(changed) == 8
    scale = config.training.lora.alpha / config.training.lora.rank
    for name in changed:
        stem = "base_model.model." + name.removesuffix("weight")
        delta = scale * tensors[f"{stem}lora_B.weight"] @ tensors[f"{stem}lora_A.weight"]
        torch.testing.assert_close(base[name] + delta, merged[name], rtol=0, atol=1e-6)


@pytest.mark.skipif(not DEFAULT_PYTHON.exists(), reason="the default environment .venv does not exist")
def test_the_default_environment_loads_it(exported: Any, tiny_fp32: Path, tmp_path: Path) -> None:
    """With another transformers."""
    _, _, adapter, trained = exported
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": f"platform{os.pathsep}."}
    arguments = [str(tiny_fp32), str(adapter), str(tmp_path / "logits.npz")]
    command = [str(DEFAULT_PYTHON), "-W", "ignore", "-c", IN_DEFAULT_ENVIRONMENT, *arguments]
    ended = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    with np.load(tmp_path / "logits.npz") as file:
        adapted = [file[name] for name in file.files]
    proof = compare_logits(trained, adapted)
    assert proof["mean_kl"] < 1e-6
    assert proof["top1_agreement"] == 1


@given(groups=st.integers(1, 4), heads_per_group=st.integers(1, 4), rank=st.integers(1, 3), seed=st.integers(0, 9))
def test_splitting_b_splits_the_product(groups: int, heads_per_group: int, rank: int, seed: int) -> None:
    """For any grouped-query attention: q, k and v with the split B change as the split fused weight does."""
    from nemo.lightning.io.state import TransformFns

    from jobs.nemo.connectors.lora_adapters import _split_qkv

    config = SimpleNamespace(num_attention_heads=groups * heads_per_group, num_query_groups=groups, kv_channels=2)
    model = SimpleNamespace(config=config)
    generator = torch.Generator().manual_seed(seed)
    rows = groups * (heads_per_group + 2) * config.kv_channels
    up, down = torch.randn(rows, rank, generator=generator), torch.randn(rank, 5, generator=generator)
    fused = TransformFns.split_qkv(SimpleNamespace(source=model), up @ down)
    for split, expected in zip(_split_qkv(model, up).values(), fused, strict=True):
        torch.testing.assert_close(split @ down, expected)


def test_what_peft_cannot_hold_is_refused(imported: Path) -> None:
    from nemo.collections.llm.peft.lora import LoRA

    from jobs.nemo.connectors.hf_exporter import HFExporter
    from jobs.nemo.connectors.lora_adapters import peft_adapter

    model, trainer = HFExporter(str(imported)).nemo_load(imported)
    with pytest.raises(CheckpointError, match=r"holds no LoRA adapters\. Export it merged"):
        peft_adapter(model)
    model.trainer = trainer
    LoRA(target_modules=["linear_qkv", "linear_fc2"], dim=4)(model)
    with pytest.raises(CheckpointError, match=r"has a LoRALinear on .*linear_fc2\. Only LoRA on attention"):
        peft_adapter(model)
