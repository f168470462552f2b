"""The llama.cpp engine in a form that computes what the transformers engine computes, up to the rounding of fp32."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.manifest_writer import write_manifest

EXACT = {
    "weights": "f32",
    "cache_type_k": "f32",
    "cache_type_v": "f32",
    "swa_full": False,
    "n_ctx": 2048,
    "n_parallel": 2,
}

EngineFactory = Callable[..., Any]
"""Creates a started engine, from a checkpoint and fields of LlamaCppConfig."""


def rounded_copy(checkpoint: Path, target: Path) -> Path:
    """A copy of a checkpoint whose config rounds YaRN's bounds, as llama.cpp always does."""
    shutil.copytree(checkpoint, target)
    config = json.loads((target / "config.json").read_text())
    config["rope_parameters"]["truncate"] = config["rope_scaling"]["truncate"] = True
    (target / "config.json").write_text(json.dumps(config))
    write_manifest(target, kind="base", name=target.name, version="1")
    return target
