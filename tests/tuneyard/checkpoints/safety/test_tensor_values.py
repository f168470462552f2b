"""NaN, infinite and all-zero tensors are named, in every dtype and wherever the value lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tuneyard.checkpoints.layout.content_hashes import hash_safetensors
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.safety.tensor_values import TensorValues
from tuneyard.checkpoints.tensor_table import weights_digest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def problems(tensors: dict[str, torch.Tensor], folder: Path) -> list[str]:
    save_file(tensors, folder / "w.safetensors")
    values = TensorValues()
    hash_safetensors(folder / "w.safetensors", values.add)
    return list(values.problems())


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_value_is_enough(dtype: torch.dtype, tmp_path: Path) -> None:
    @given(value=st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0]), place=st.integers(0, 99))
    def check(value: float, place: int) -> None:
        tensor = torch.linspace(-3, 3, 100).to(dtype)
        tensor[place] = value
        found = problems({"a.bias": tensor, "b.bias": torch.ones(3, dtype=dtype)}, tmp_path)
        kind = "NaN" if value != value else "infinite"
        expected = [] if abs(value) <= 1 else [f"a.bias holds {kind} values"]
        assert [problem.partition(", so")[0] for problem in found] == expected

    check()


@given(bits=st.integers(0, 2**16 - 1))
def test_every_bf16_is_judged_as_torch_judges_it(bits: int) -> None:
    value = torch.tensor([bits], dtype=torch.uint16).view(torch.bfloat16)
    values = TensorValues()
    values.add("x.bias", "BF16", bits.to_bytes(2, "little"))
    assert bool(list(values.problems())) == (not bool(value.isfinite().all()))


def test_zeros_are_named_only_where_no_model_has_them(tmp_path: Path) -> None:
    names = ["lm_head.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.experts.down_proj"]
    allowed = ["model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.router.weight", "m.self_attn.sinks"]
    found = problems({name: torch.zeros(4, 4) for name in names + allowed}, tmp_path)
    assert sorted(problem.partition(" holds only zeros")[0] for problem in found) == sorted(names)


def test_mxfp4(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.experts.down_proj"
    scales = torch.full((2, 4), 127, dtype=torch.uint8)
    negative_zeros = torch.full((2, 4, 16), 0x88, dtype=torch.uint8)
    assert (
        "_blocks holds only zeros"
        in problems({f"{name}_blocks": negative_zeros, f"{name}_scales": scales}, tmp_path)[0]
    )
    scales[1, 2] = 255
    found = problems({f"{name}_blocks": negative_zeros + 1, f"{name}_scales": scales}, tmp_path)
    assert [problem.partition(" values")[0] for problem in found] == [f"{name}_scales holds NaN"]


def test_checkpoints_with_them_are_refused(tiny_oss: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_oss, tmp_path / "damaged"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.self_attn.sinks"][2] = float("nan")
    tensors["model.norm.weight"].zero_()
    save_file(tensors, folder / "model.safetensors")
    write_manifest(folder, kind="base", name="m", version="1")
    expected = r"sinks holds NaN values[^\n]*\n[^\n]*model.norm.weight holds only zeros"
    with pytest.raises(CheckpointError, match=expected):
        validate_hf_checkpoint(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=expected):
        weights_digest(folder)
