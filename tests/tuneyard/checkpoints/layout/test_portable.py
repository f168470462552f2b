"""Config files that transformers 4.57 and 5.x read alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuneyard.checkpoints.layout.portable import make_checkpoint_portable, make_config_portable
from tuneyard.core.errors import CheckpointError


def test_the_config_of_either_transformers_becomes_portable() -> None:
    new = {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e5}}
    old = {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "rope_theta": 1e5}
    assert make_config_portable(new) == make_config_portable(old) == {**new, **old}
    with pytest.raises(CheckpointError, match=r"config\.json has no rope_parameters"):
        make_config_portable({"rope_theta": 1e5})


def test_the_tokenizer_config_becomes_portable(tiny_oss_copy: Path) -> None:
    path = tiny_oss_copy / "tokenizer_config.json"
    written = json.loads(path.read_text())
    changes = {"tokenizer_class": "X", "backend": "tokenizers", "extra_special_tokens": ["<|a|>"]}
    path.write_text(json.dumps(written | changes))
    make_checkpoint_portable(tiny_oss_copy)
    rewritten = json.loads(path.read_text())
    assert rewritten["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert rewritten["additional_special_tokens"] == ["<|a|>"]
    assert not {"backend", "extra_special_tokens"} & rewritten.keys()
