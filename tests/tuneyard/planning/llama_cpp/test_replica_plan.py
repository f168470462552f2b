"""The planned memory of a llama.cpp replica against what llama.cpp reports, and against what a process took."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mxfp4_base import PublishedBase
from tests.published_20b import published_20b_config, write_weights
from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.gguf.writing import gguf_size, write_gguf
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.configs.engines.llama_cpp import LlamaCppConfig
from tuneyard.planning.llama_cpp.replica_plan import LlamaCppPlan, plan_llama_cpp
from tuneyard.planning.published_models import PUBLISHED

MIB = 2**20

SIZES = {
    "hidden_size": 512,
    "intermediate_size": 768,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "num_hidden_layers": 5,
    "num_local_experts": 16,
    "num_experts_per_tok": 4,
    "vocab_size": 8192,
}
"""Of a model of 100 million parameters, with more layers of one kind than of the other."""

CONFIGS: dict[str, dict[str, Any]] = {
    "scores in memory": {"n_ctx": 1024, "n_parallel": 1},
    "flash attention, q8_0 cache, windows": {
        "n_ctx": 32768,
        "n_parallel": 2,
        "n_ubatch": 256,
        "flash_attn": "on",
        "cache_type_k": "q8_0",
        "cache_type_v": "q8_0",
        "swa_full": False,
    },
    "q8_0 weights, f32 cache": {
        "weights": "q8_0",
        "n_ctx": 16384,
        "n_parallel": 1,
        "n_ubatch": 128,
        "flash_attn": "auto",
        "cache_type_k": "f32",
    },
}


@pytest.fixture(scope="module")
def checkpoint(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with MXFP4 experts."""
    folder = tmp_path_factory.mktemp("models") / "mxfp4"
    folder.mkdir()
    config = published_20b_config(SIZES["num_hidden_layers"]) | SIZES
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((tiny_oss / "tokenizer.json").read_bytes())
    write_weights(folder / "model.safetensors", config)
    return folder


def engine(**fields: Any) -> LlamaCppConfig:
    return LlamaCppConfig.model_validate({"weights": "mxfp4"} | fields)


def planned(checkpoint: Path, config: LlamaCppConfig) -> LlamaCppPlan:
    return plan_llama_cpp(config, read_json(checkpoint / "config.json"), is_mxfp4=True)


@pytest.mark.parametrize("case", CONFIGS)
def test_the_plan_is_what_llama_cpp_takes(case: str, checkpoint: Path, tmp_path: Path) -> None:
    """Buffers as llama.cpp reports them, and the process' peak while it answers prompts that fill all slots."""
    config = engine(**CONFIGS[case])
    plan = planned(checkpoint, config)
    path = tmp_path / "model.gguf"
    write_gguf(checkpoint, path, config.weights, with_text=False)
    command = [sys.executable, "-m", "tests.tuneyard.planning.llama_cpp.peak_memory", path, config.model_dump_json()]
    environment = {"PYTHONPATH": "platform:.", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    def reported(buffer: str) -> float:
        sizes = re.findall(rf"{buffer} buffer size = +([\d.]+) MiB", done.stderr)
        return sum(map(float, sizes)) * MIB

    tolerance = 0.01 * MIB
    assert reported("CPU_Mapped model") == pytest.approx(plan.weights_bytes, abs=tolerance)
    assert reported("CPU_REPACK model") == pytest.approx(plan.repacked_bytes, abs=tolerance)
    assert reported("CPU KV") == pytest.approx(plan.kv_cache_bytes, abs=tolerance)
    assert reported("CPU compute") + reported("CPU  output") == pytest.approx(plan.compute_bytes, rel=0.03)
    assert "created context checkpoint" not in done.stderr
    assert int(done.stdout.splitlines()[-1]) == pytest.approx(plan.allocated_bytes, rel=0.15)


def test_weights_are_those_of_the_file(checkpoint: Path, published_base: PublishedBase) -> None:
    for folder in (checkpoint, published_base.adopted):
        for kind in GgufType:
            plan = planned(folder, engine(weights=kind))
            assert plan.weights_bytes == gguf_size(folder, kind)
    assert planned(checkpoint, engine()).checkpoint_bytes == pytest.approx(
        (checkpoint / "model.safetensors").stat().st_size, rel=0.01
    )


def test_20b() -> None:
    """What llama.cpp 2026.10 reported for 20B's shapes: compute buffers with 4 layers, the rest by its layers."""

    def mib(field: str, **fields: Any) -> float:
        plan = plan_llama_cpp(engine(n_parallel=1, **fields), PUBLISHED["20b"], is_mxfp4=True)
        return float(getattr(plan, field)) / MIB

    assert mib("repacked_bytes") == pytest.approx(12 * 806.84, abs=0.1)
    assert mib("kv_cache_bytes", n_ctx=8192) == pytest.approx(24 * 16.5)
    logits = 0.77
    for fields, size in (
        ({"n_ctx": 8192}, 1137.14),
        ({"n_ctx": 1024}, 213.14),
        ({"n_ctx": 8192, "n_ubatch": 128}, 284.29),
        ({"n_ctx": 1024, "flash_attn": "on"}, 98.15),
        ({"n_ctx": 8192, "flash_attn": "on"}, 112.15),
        ({"n_ctx": 65536, "flash_attn": "on"}, 224.15),
        ({"n_ctx": 16384, "flash_attn": "on", "swa_full": False}, 112.65),
    ):
        assert mib("compute_bytes", **fields) == pytest.approx(size + logits, rel=0.01)
