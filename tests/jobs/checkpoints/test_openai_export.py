"""OpenAI's original form: what is refused. tests/compat compares its logits with OpenAI's own implementation."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.checkpoints.openai_export import export_openai
from tests.mxfp4_base import publish_mxfp4
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError


def test_the_target_must_not_be_inside_the_source(tiny_oss: Path, tmp_path: Path) -> None:
    publish_mxfp4(tiny_oss, tmp_path / "q")
    with pytest.raises(CheckpointError, match="lies inside the checkpoint"):
        export_openai(tmp_path / "q", tmp_path / "q" / "original")
    validate_hf_checkpoint(tmp_path / "q")


def test_experts_must_be_mxfp4(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"First: python -m jobs\.quantize SOURCE --format mxfp4"):
        export_openai(tiny_oss, tmp_path / "original")
