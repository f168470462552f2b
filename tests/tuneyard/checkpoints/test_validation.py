"""Every kind of broken checkpoint is refused with a message of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tuneyard.checkpoints.manifest import BaseReference, CheckpointManifest, read_manifest
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.tensor_table import weights_digest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError

WEIGHTS = "model.safetensors"


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def seal(folder: Path, **fields: Any) -> CheckpointManifest:
    """Writes a manifest that matches the files as they are now."""
    return write_manifest(folder, kind="finetuned", name="tuned", version="1", **fields)


def refusal(folder: Path, base: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        validate_hf_checkpoint(folder, base)
    return str(caught.value)


def test_valid_checkpoint_gives_its_manifest(tiny_oss: Path) -> None:
    manifest = validate_hf_checkpoint(tiny_oss)
    assert manifest == read_manifest(tiny_oss)
    assert manifest.architecture == "GptOssForCausalLM"
    assert manifest.tensors["model.layers.1.self_attn.sinks"].shape == (4,)
    assert manifest.digest == weights_digest(tiny_oss)


def test_importing_loads_neither_torch_nor_transformers() -> None:
    heavy = "{'torch', 'transformers', 'numpy'}"
    code = f"import sys, tuneyard.checkpoints.validation; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_folder(tmp_path: Path) -> None:
    assert "no such checkpoint folder" in refusal(tmp_path / "none")


def test_missing_manifest(tiny_oss_copy: Path) -> None:
    (tiny_oss_copy / "manifest.json").unlink()
    assert "is not a finished checkpoint" in refusal(tiny_oss_copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "format_version is None"),
        ('{"format_version": 2}', "format_version is 2, but this Tuneyard reads only 1"),
        ('{"format_version": 1}', "is not a valid manifest: kind: Field required"),
    ],
)
def test_unreadable_manifest(tiny_oss_copy: Path, text: str, message: str) -> None:
    (tiny_oss_copy / "manifest.json").write_text(text)
    assert message in refusal(tiny_oss_copy)


def test_flipped_bit(tiny_oss_copy: Path) -> None:
    with (tiny_oss_copy / WEIGHTS).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    message = refusal(tiny_oss_copy)
    assert "1 problem" in message
    assert f"{WEIGHTS}: sha256 is" in message
    assert "changed or damaged after it was written (tensors: model." in message


def test_truncated_weights(tiny_oss_copy: Path) -> None:
    path = tiny_oss_copy / WEIGHTS
    os.truncate(path, path.stat().st_size - 100)
    message = refusal(tiny_oss_copy)
    assert "truncated or padded" in message
    assert "where the manifest says" in message
    assert "tensor names" not in message


@pytest.mark.parametrize("data", [b"", b"\x10\0\0\0\0\0\0\0" + b"x" * 16, b"PK\x03\x04" * 8])
def test_weights_of_another_kind(tiny_oss_copy: Path, data: bytes) -> None:
    (tiny_oss_copy / WEIGHTS).write_bytes(data)
    assert "safetensors" in refusal(tiny_oss_copy)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_missing_file(tiny_oss_copy: Path, name: str) -> None:
    (tiny_oss_copy / name).unlink()
    assert f"{name}: missing, but the manifest lists it" in refusal(tiny_oss_copy)


def test_extra_weights(tiny_oss_copy: Path) -> None:
    save_file({"x": torch.zeros(1)}, tiny_oss_copy / "stray.safetensors")
    message = refusal(tiny_oss_copy)
    assert "stray.safetensors: extra file" in message
    assert "stray.safetensors: no loader reads this file" in message


def test_changed_config_is_seen(tiny_oss_copy: Path) -> None:
    edit_json(tiny_oss_copy / "config.json", lambda c: c.update(sliding_window=17))
    assert "config.json: " in refusal(tiny_oss_copy)


def test_misnamed_tensor(tiny_oss_copy: Path) -> None:
    edit_weights(tiny_oss_copy, lambda t: t.update({"base_model.norm.weight": t.pop("model.norm.weight")}))
    seal(tiny_oss_copy)
    message = refusal(tiny_oss_copy)
    assert "the tensor names are not those of GptOssForCausalLM" in message
    assert "missing model.norm.weight" in message
    assert "unexpected base_model.norm.weight" in message


def test_wrong_shape_and_dtype(tiny_oss_copy: Path) -> None:
    name = "model.layers.0.mlp.experts.down_proj"
    edit_weights(
        tiny_oss_copy,
        lambda t: t.update({name: t[name][:, :32].contiguous(), "lm_head.weight": t["lm_head.weight"].float()}),
    )
    seal(tiny_oss_copy)
    message = refusal(tiny_oss_copy)
    assert f"{name}: the shape is [8, 32, 64], but config.json promises [8, 64, 64]" in message
    assert "lm_head.weight: the dtype is F32, but most others are BF16" in message
    edit_json(tiny_oss_copy / "config.json", lambda c: c.update(dtype="bfloat16"))
    seal(tiny_oss_copy)
    assert "lm_head.weight: the dtype is F32, but config.json promises BF16" in refusal(tiny_oss_copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"added_tokens_decoder": {"5": 7}}, "added_tokens_decoder must be an object of ids"),
        ({"added_tokens_decoder": {"x": {"content": "a"}}}, "added_tokens_decoder must be an object of ids"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder must be an object of ids"),
        (
            {"bos_token": {"__type": "AddedToken", "content": [1]}},
            "bos_token is {'__type': 'AddedToken', 'content': [1]}",
        ),
        ({"pad_token": 5}, "pad_token is 5, but must be the text of a token"),
    ],
)
def test_tokens_that_transformers_cannot_make(tiny_oss_copy: Path, change: dict[str, Any], message: str) -> None:
    edit_json(tiny_oss_copy / "tokenizer_config.json", lambda settings: settings.update(change))
    seal(tiny_oss_copy)
    assert message in refusal(tiny_oss_copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "architectures is ['LlamaForCausalLM']"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "stale quantization_config (mxfp4)"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is true"),
        ({"vocab_size": 1000}, "token ids go up to 1023, but vocab_size in config.json is 1000"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"rope_parameters": None}, "lacks rope_parameters"),
        ({"rope_theta": None, "rope_scaling": None}, "lacks rope_scaling and rope_theta"),
        ({"rope_theta": 1e4}, "would load different models"),
    ],
)
def test_wrong_config(tiny_oss_copy: Path, change: dict[str, Any], message: str) -> None:
    edit_json(tiny_oss_copy / "config.json", lambda c: c.update(change))
    seal(tiny_oss_copy)
    assert message in refusal(tiny_oss_copy)


def test_tokenizer_class_that_only_one_transformers_loads(tiny_oss_copy: Path) -> None:
    edit_json(tiny_oss_copy / "tokenizer_config.json", lambda c: c.update(tokenizer_class="TokenizersBackend"))
    seal(tiny_oss_copy)
    assert "tokenizer_class is 'TokenizersBackend'" in refusal(tiny_oss_copy)


def test_all_problems_are_listed_at_once(tiny_oss_copy: Path) -> None:
    (tiny_oss_copy / "tokenizer.json").unlink()
    edit_json(tiny_oss_copy / "config.json", lambda c: c.update(tie_word_embeddings=True))
    message = refusal(tiny_oss_copy)
    assert "4 problems" in message
    assert message.count("\n") == 4


def test_sharded_weights_need_a_correct_index(tiny_oss_copy: Path) -> None:
    tensors = load_file(tiny_oss_copy / WEIGHTS)
    (tiny_oss_copy / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, members in shards.items():
        save_file({name: tensors[name] for name in members}, tiny_oss_copy / file)
    index = {"weight_map": {name: file for file, members in shards.items() for name in members}}
    (tiny_oss_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    whole = read_manifest(tiny_oss_copy).digest
    assert seal(tiny_oss_copy).digest == whole
    validate_hf_checkpoint(tiny_oss_copy)
    index["weight_map"][names[0]] = "model-00002-of-00002.safetensors"
    (tiny_oss_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    seal(tiny_oss_copy)
    assert "does not name the right file for every tensor" in refusal(tiny_oss_copy)


def test_mxfp4_names_and_shapes(tiny_oss_copy: Path) -> None:
    def quantise(tensors: dict[str, torch.Tensor]) -> None:
        for name in [n for n in tensors if n.endswith("experts.gate_up_proj") or n.endswith("experts.down_proj")]:
            experts, wide_in, wide_out = tensors.pop(name).shape
            tensors[f"{name}_blocks"] = torch.ones(experts, wide_out, wide_in // 32, 16, dtype=torch.uint8)
            tensors[f"{name}_scales"] = torch.zeros(experts, wide_out, wide_in // 32, dtype=torch.uint8)

    edit_weights(tiny_oss_copy, quantise)
    seal(tiny_oss_copy)
    assert "there is no quantization_config" in refusal(tiny_oss_copy)
    edit_json(tiny_oss_copy / "config.json", lambda c: c.update(quantization_config={"quant_method": "mxfp4"}))
    seal(tiny_oss_copy)
    validate_hf_checkpoint(tiny_oss_copy)


def test_silent_no_op_against_the_base(tiny_oss: Path, tiny_oss_copy: Path) -> None:
    seal(tiny_oss_copy)
    assert "the training was a silent no-op" in refusal(tiny_oss_copy, tiny_oss)
    edit_weights(tiny_oss_copy, lambda t: t["lm_head.weight"].add_(1))
    seal(tiny_oss_copy, base=BaseReference(name="tiny", digest=weights_digest(tiny_oss)))
    validate_hf_checkpoint(tiny_oss_copy, tiny_oss)


def test_base_without_a_manifest(tiny_oss: Path, tiny_oss_copy: Path, tmp_path: Path) -> None:
    (tiny_oss_copy / "manifest.json").unlink()
    assert weights_digest(tiny_oss_copy) == weights_digest(tiny_oss)
    assert "the training was a silent no-op" in refusal(tiny_oss, tiny_oss_copy)
    with pytest.raises(CheckpointError, match=r"no manifest and no \.safetensors"):
        weights_digest(tmp_path)


def test_another_base(tiny_oss: Path, tiny_oss_copy: Path) -> None:
    edit_weights(tiny_oss_copy, lambda t: t.update({"lm_head.weight": t["lm_head.weight"].half()}))
    seal(tiny_oss_copy, base=BaseReference(name="other", digest="0" * 64))
    message = refusal(tiny_oss_copy, tiny_oss)
    assert "finetuned from other (weights 000000000000…)" in message
    assert "lm_head.weight: F16 (1024, 64) where the base has BF16 (1024, 64)" in message
