"""A GGUF file holds the checkpoint's weights and tokenizer, and is written as a whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.checkpoints.mxfp4 import dequantise
from jobs.checkpoints.shards import TensorReader
from tests.gguf_files import mxfp4_blocks, read_as_checkpoint, read_bytes, read_fields
from tests.mxfp4_base import PublishedBase
from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.gguf.writing import gguf_size, write_gguf
from tuneyard.checkpoints.layout.json_files import read_json, write_json
from tuneyard.core.errors import CheckpointError, StorageFullError
from tuneyard.harmony.chat_template.template import chat_template
from tuneyard.harmony.settings import CodecSettings

LAYERS = 2


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The checkpoint's fp32 weights, experts dequantised."""
    reader = TensorReader(folder)
    tensors: dict[str, torch.Tensor] = {}
    for name in reader.names:
        if name.endswith("_blocks"):
            stem = name.removesuffix("_blocks")
            tensors[stem] = dequantise(reader.read(name), reader.read(f"{stem}_scales")).transpose(1, 2)
        elif not name.endswith("_scales"):
            tensors[name] = reader.read(name).float()
    return tensors


@pytest.mark.parametrize("kind", [GgufType.F32, GgufType.BF16])
def test_every_weight_comes_back(tiny_oss: Path, tmp_path: Path, kind: GgufType) -> None:
    write_gguf(tiny_oss, tmp_path / "m.gguf", kind)
    expected, found = weights(tiny_oss), read_as_checkpoint(tmp_path / "m.gguf", LAYERS)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(found[name], values.numpy()), name


@pytest.mark.parametrize(("kind", "error"), [(GgufType.Q8_0, 0.01), (GgufType.F16, 0.001)])
def test_rounded_weights_are_close(tiny_oss: Path, tmp_path: Path, kind: GgufType, error: float) -> None:
    write_gguf(tiny_oss, tmp_path / "m.gguf", kind)
    found = read_as_checkpoint(tmp_path / "m.gguf", LAYERS)
    for name, values in weights(tiny_oss).items():
        assert np.abs(found[name] - values.numpy()).max() <= error * values.abs().max(), name


def test_mxfp4_experts_pass_through_bit_for_bit(published_base: PublishedBase, tmp_path: Path) -> None:
    source = published_base.downloaded
    write_gguf(source, tmp_path / "m.gguf", GgufType.MXFP4)
    layers = read_json(source / "config.json")["num_hidden_layers"]
    stored, reader = read_bytes(tmp_path / "m.gguf"), TensorReader(source)
    for layer in range(layers):
        experts = f"model.layers.{layer}.mlp.experts"
        for part, matrix, outputs in (
            ("gate", "gate_up_proj", slice(0, None, 2)),
            ("up", "gate_up_proj", slice(1, None, 2)),
            ("down", "down_proj", slice(None)),
        ):
            dtype, data = stored[f"blk.{layer}.ffn_{part}_exps.weight"]
            blocks, scales = mxfp4_blocks(data)
            assert dtype == "MXFP4"
            assert np.array_equal(blocks, reader.read(f"{experts}.{matrix}_blocks").numpy()[:, outputs])
            assert np.array_equal(scales, reader.read(f"{experts}.{matrix}_scales").numpy()[:, outputs])
    found = read_as_checkpoint(tmp_path / "m.gguf", layers)
    for name, values in weights(source).items():
        assert np.array_equal(found[name], values.numpy()), name


def test_mxfp4_experts_become_another_type_by_their_exact_values(published_base: PublishedBase, tmp_path: Path) -> None:
    source = published_base.downloaded
    write_gguf(source, tmp_path / "m.gguf", GgufType.F32)
    found = read_as_checkpoint(tmp_path / "m.gguf", read_json(source / "config.json")["num_hidden_layers"])
    for name, values in weights(source).items():
        assert np.array_equal(found[name], values.numpy()), name


@pytest.mark.parametrize("kind", [GgufType.F32, GgufType.F16, GgufType.BF16, GgufType.Q8_0])
def test_the_size_is_known_before(tiny_oss: Path, tmp_path: Path, kind: GgufType) -> None:
    reports: list[tuple[int, int]] = []
    summary = write_gguf(tiny_oss, tmp_path / "m.gguf", kind, on_progress=lambda *done: reports.append(done))
    size = gguf_size(tiny_oss, kind)
    assert sum(data.nbytes for _, data in read_bytes(tmp_path / "m.gguf").values()) == size
    assert reports[-1] == (size, size)
    assert [written for written, _ in reports] == sorted({written for written, _ in reports})
    assert summary.size_bytes == (tmp_path / "m.gguf").stat().st_size > size
    assert sum(summary.dtypes.values()) == len(reports)


def test_sizes_rope_and_origin(tiny_oss: Path, tmp_path: Path) -> None:
    write_gguf(tiny_oss, tmp_path / "m.gguf", GgufType.Q8_0)
    fields, config = read_fields(tmp_path / "m.gguf"), read_json(tiny_oss / "config.json")
    assert fields["general.architecture"] == "gpt-oss"
    assert fields["general.file_type"] == 7
    assert fields["general.name"] == "tiny-oss-random"
    assert fields["gpt-oss.attention.sliding_window"] == config["sliding_window"]
    assert fields["gpt-oss.expert_used_count"] == config["num_experts_per_tok"]
    assert fields["gpt-oss.rope.scaling.type"] == "yarn"
    assert fields["gpt-oss.rope.scaling.factor"] == 32
    assert fields["gpt-oss.rope.scaling.original_context_length"] == 4096
    assert fields["tokenizer.chat_template"] == chat_template(CodecSettings())


def test_the_tokenizer_keeps_its_ids_and_stops_at_harmonys_tokens(tiny_oss: Path, tmp_path: Path) -> None:
    write_gguf(tiny_oss, tmp_path / "m.gguf", GgufType.F32)
    fields, tokenizer = read_fields(tmp_path / "m.gguf"), read_json(tiny_oss / "tokenizer.json")
    ids = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert {token: index for index, token in enumerate(tokens)} == ids
    assert {tokens[index] for index, kind in enumerate(types) if kind == 3} == {
        token["content"] for token in tokenizer["added_tokens"]
    }
    assert fields["tokenizer.ggml.eos_token_id"] == ids["<|return|>"]
    assert fields["tokenizer.ggml.eos_token_ids"] == [ids["<|return|>"], ids["<|call|>"]]
    assert fields["tokenizer.ggml.add_bos_token"] is False


def test_ids_without_a_token_get_a_name(tiny_oss_copy: Path, tmp_path: Path) -> None:
    """As in the published vocabulary, which ends before the embeddings do."""
    tensors, config = load_file(tiny_oss_copy / "model.safetensors"), read_json(tiny_oss_copy / "config.json")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = torch.cat((tensors[name], tensors[name][:3]))
    save_file(tensors, tiny_oss_copy / "model.safetensors")
    write_json(tiny_oss_copy / "config.json", config | {"vocab_size": config["vocab_size"] + 3})
    write_gguf(tiny_oss_copy, tmp_path / "m.gguf", GgufType.F32)
    fields = read_fields(tmp_path / "m.gguf")
    assert fields["tokenizer.ggml.tokens"][-3:] == [f"[PAD{config['vocab_size'] + i}]" for i in range(3)]
    assert fields["tokenizer.ggml.token_type"][-3:] == [5, 5, 5]


def changed(folder: Path, **fields: Any) -> Path:
    write_json(folder / "config.json", read_json(folder / "config.json") | fields)
    return folder


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types must be sliding_attention and full"),
        ({"swiglu_limit": 8.0}, r"swiglu_limit is 8\.0, and llama\.cpp computes with 7\.0"),
        ({"architectures": ["LlamaForCausalLM"]}, "architectures is"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "rope_parameters is .* it must be yarn"),
        ({"num_local_experts": 4}, r"has the shape \[8, .*but config\.json says \[4, "),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tiny_oss_copy: Path, tmp_path: Path, fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(CheckpointError, match=problem):
        write_gguf(changed(tiny_oss_copy, **fields), tmp_path / "m.gguf", GgufType.F32)
    assert not (tmp_path / "m.gguf").exists()


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(tiny_oss_copy: Path, tmp_path: Path) -> None:
    tokenizer = read_json(tiny_oss_copy / "tokenizer.json")
    tokenizer["pre_tokenizer"]["add_prefix_space"] = True
    (tiny_oss_copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(CheckpointError, match=r"splits text in a way that has no name in llama\.cpp"):
        write_gguf(tiny_oss_copy, tmp_path / "m.gguf", GgufType.F32)


def test_mxfp4_of_other_experts_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"First: python -m jobs\.quantize SOURCE --format mxfp4"):
        write_gguf(tiny_oss, tmp_path / "m.gguf", GgufType.MXFP4)


def test_values_beyond_f16_are_refused(tiny_oss_copy: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_oss_copy / "model.safetensors")
    tensors["lm_head.weight"][5, 6] = 1e5
    save_file(tensors, tiny_oss_copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight: holds 99840, and F16 ends at 65504"):
        write_gguf(tiny_oss_copy, tmp_path / "m.gguf", GgufType.F16)
    assert [path.name for path in tmp_path.iterdir()] == [tiny_oss_copy.name]


def test_an_interrupted_file_is_removed(tiny_oss: Path, tmp_path: Path) -> None:
    def interrupt(written: int, total: int) -> None:
        if written > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gguf(tiny_oss, tmp_path / "m.gguf", GgufType.F32, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_kept(tiny_oss: Path, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"mine")
    with pytest.raises(CheckpointError, match=r"m\.gguf already exists"):
        write_gguf(tiny_oss, tmp_path / "m.gguf", GgufType.F32)
    assert (tmp_path / "m.gguf").read_bytes() == b"mine"


def test_a_full_disk_is_noticed_before_writing(tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage(10, 9, gguf_size(tiny_oss, GgufType.F32) - 1))
    with pytest.raises(StorageFullError, match=r"has 0\.0 GB free, but the file takes"):
        write_gguf(tiny_oss, tmp_path / "m.gguf", GgufType.F32)
    assert list(tmp_path.iterdir()) == []
