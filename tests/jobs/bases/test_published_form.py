"""The fixtures' files are those of openai/gpt-oss-20b, field by field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from jobs.bases.published_form import END_TOKENS, published_config
from jobs.bases.tiny_oss import SIZES, SPECIAL_TOKENS
from tests.mxfp4_base import download_mxfp4, publish_mxfp4
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.safety.checkpoint_safety import safety_problems

PUBLISHED = Path("tests/gpu/gpt_oss_20b_config.json")
"""config.json of openai/gpt-oss-20b."""

IDS = {"<|startoftext|>": 199998, "<|endoftext|>": 199999, "<|return|>": 200002, "<|call|>": 200012}


def test_the_config_is_the_published_one() -> None:
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    tokenizer = Tokenizer(models.WordLevel(dict(IDS), unk_token="<|call|>"))
    config = published_config({name: published[name] for name in SIZES}, tokenizer)
    assert config == {name: value for name, value in published.items() if name != "quantization_config"}
    assert "dtype" not in published
    assert "torch_dtype" not in published


@pytest.fixture
def downloaded(tiny_oss: Path, tmp_path: Path) -> Path:
    download_mxfp4(tiny_oss, tmp_path / "download")
    return tmp_path / "download"


def test_a_download_has_the_published_files(downloaded: Path) -> None:
    shards = [path.name for path in sorted(downloaded.glob("*.safetensors"))]
    assert shards == [f"model-{index:05d}-of-00002.safetensors" for index in range(3)]
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
    config, published = read_json(downloaded / "config.json"), json.loads(PUBLISHED.read_text(encoding="utf-8"))
    assert config.keys() == published.keys()
    assert config["quantization_config"] == published["quantization_config"]
    assert read_json(downloaded / "generation_config.json")["eos_token_id"] == [
        SPECIAL_TOKENS.index(token) for token in END_TOKENS
    ]
    assert list(safety_problems(downloaded)) == []


def test_adopting_changes_config_files_only(downloaded: Path, tiny_oss: Path, tmp_path: Path) -> None:
    publish_mxfp4(tiny_oss, tmp_path / "adopted")
    changed = {
        path.name
        for path in downloaded.iterdir()
        if path.read_bytes() != (tmp_path / "adopted" / path.name).read_bytes()
    }
    assert changed == {"config.json"}
