"""The commands jobs.quantize and jobs.export_openai with versions of the registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import export_openai as export_module
from jobs import quantize as quantize_module
from tuneyard.checkpoints.registry import ModelRegistry

HELDOUT = "jobs/data/brindle_heldout.jsonl"


def test_the_commands_write_and_register(tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`quantize` into the registry, `export_openai` out of it, both by name."""
    options = ["--format", "mxfp4", "--heldout", HELDOUT, "--rows", "3", "--max-loss-increase", "1"]
    assert quantize_module.main([str(tiny_oss), *options]) == 0
    said = capsys.readouterr().out
    version = ModelRegistry().find("tiny-oss-random-mxfp4@newest")
    assert f"registered tiny-oss-random-mxfp4/{version.version}" in said
    assert "(nats per token, 3 rows)" in said
    assert export_module.main(["tiny-oss-random-mxfp4@newest", str(tmp_path / "original")]) == 0
    assert "33 tensors" in capsys.readouterr().out
    config = json.loads((tmp_path / "original" / "config.json").read_text())
    assert (config["num_experts"], config["experts_per_token"], config["rope_scaling_factor"]) == (8, 2, 32.0)
    assert quantize_module.main([str(tmp_path / "nowhere"), *options]) == 1
    assert "no such checkpoint folder" in capsys.readouterr().err
