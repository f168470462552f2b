"""Where NeMo checkpoints lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.nemo.checkpoint_folders import nemo_base
from tests.jobs.training.backend_contract import backend_config
from tuneyard.core.errors import CheckpointError


def test_a_missing_base_is_named(tiny_oss: Path, tmp_path: Path) -> None:
    assert nemo_base(backend_config(tiny_oss)) == nemo_base(backend_config(tiny_oss))
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(CheckpointError, match=rf"model.base: {folder} holds no config.json or no \*.safetensors"):
            nemo_base(backend_config(folder))
