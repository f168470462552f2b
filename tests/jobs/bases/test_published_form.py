"""The fixtures' files are those of openai/gpt-oss-20b and openai/gpt-oss-120b, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from jobs.bases.published_form import END_TOKENS, published_config
from jobs.bases.tiny_oss import SIZES, SPECIAL_TOKENS
from tests.mxfp4_base import PublishedBase
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.safety.checkpoint_safety import safety_problems
from tuneyard.planning.published_models import PUBLISHED

IDS = {"<|startoftext|>": 199998, "<|endoftext|>": 199999, "<|return|>": 200002, "<|call|>": 200012}

LAST_SHARD = {"20b": 2, "120b": 14}
"""The number of the last shard, from 0, which is also that in every name: model-00000-of-00002.safetensors."""


def published(size: str) -> dict[str, Any]:
    """config.json as published: that of openai/gpt-oss-120b differs in the numbers of layers and experts only."""
    config: dict[str, Any] = json.loads(Path("tests/gpu/gpt_oss_20b_config.json").read_text(encoding="utf-8"))
    layers = PUBLISHED[size]["num_hidden_layers"]
    return config | PUBLISHED[size] | {"layer_types": ["sliding_attention", "full_attention"] * (layers // 2)}


def test_the_sizes_of_20b_are_those_of_its_config() -> None:
    assert published("20b") == json.loads(Path("tests/gpu/gpt_oss_20b_config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("size", ["20b", "120b"])
def test_the_config_is_the_published_one(size: str) -> None:
    tokenizer = Tokenizer(models.WordLevel(dict(IDS), unk_token="<|call|>"))
    expected = published(size)
    config = published_config({name: expected[name] for name in SIZES}, tokenizer)
    assert config == {name: value for name, value in expected.items() if name != "quantization_config"}
    assert "dtype" not in expected
    assert "torch_dtype" not in expected


def test_a_download_has_the_published_files(published_base: PublishedBase) -> None:
    downloaded, last = published_base.downloaded, LAST_SHARD[published_base.size]
    shards = [path.name for path in sorted(downloaded.glob("*.safetensors"))]
    assert shards == [f"model-{index:05d}-of-{last:05d}.safetensors" for index in range(last + 1)]
    assert {path.name for path in downloaded.iterdir()} - set(shards) == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config, expected = read_json(downloaded / "config.json"), published(published_base.size)
    assert config.keys() == expected.keys()
    same = ("quantization_config", "rope_scaling", "rope_theta", "max_position_embeddings", "swiglu_limit")
    assert [config[name] for name in same] == [expected[name] for name in same]
    if published_base.size == "120b":
        assert config["layer_types"] == expected["layer_types"]
    assert read_json(downloaded / "generation_config.json")["eos_token_id"] == [
        SPECIAL_TOKENS.index(token) for token in END_TOKENS
    ]
    assert list(safety_problems(downloaded)) == []


def test_adopting_changes_config_files_only(published_base: PublishedBase) -> None:
    changed = {
        path.name
        for path in published_base.downloaded.iterdir()
        if path.read_bytes() != (published_base.adopted / path.name).read_bytes()
    }
    assert changed == {"config.json"}
