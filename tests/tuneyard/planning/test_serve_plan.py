"""Memory and streams are calculated, every preset for GPUs fits, and the command reports what does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.mxfp4_base import PublishedBase
from tuneyard.cli.main import main
from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError
from tuneyard.planning.published_models import PUBLISHED
from tuneyard.planning.serve_plan import plan_engine
from tuneyard.planning.tensorrt_llm_arguments import llm_arguments

PRESETS = sorted(path for path in Path("serve_apps/configs").glob("gpt_oss_*.yaml") if "laptop" not in path.name)


def engine(**fields: Any) -> TensorRTLLMConfig:
    return TensorRTLLMConfig.model_validate({"gpu": "H100"} | fields)


def test_kv_cache_and_streams() -> None:
    """20b: 24 layers × 8 heads × 64 × (K and V) × 2 bytes = 49,152 a token; fp8 half; heads are dealt out."""
    plan = plan_engine(engine(max_batch_size=1500), PUBLISHED["20b"], is_mxfp4=True)
    assert plan.kv_bytes_per_token == 49_152
    assert plan.kv_tokens == int(plan.kv_cache_gib * 2**30 / 49_152)
    assert plan.streams(1000) == plan.kv_tokens // 1024  # whole blocks of 32
    assert plan.streams(1) == 1500
    assert plan_engine(engine(gpu="B200"), PUBLISHED["20b"], is_mxfp4=True).kv_bytes_per_token == 24_576
    cut = plan_engine(engine(tensor_parallel_size=2), PUBLISHED["20b"], is_mxfp4=True)
    assert cut.kv_bytes_per_token == 24_576
    own = plan_engine(engine(tensor_parallel_size=2, enable_attention_dp=True), PUBLISHED["20b"], is_mxfp4=True)
    assert (own.kv_bytes_per_token, own.max_streams) == (49_152, 128)
    assert own.weights_gib > cut.weights_gib
    # A request lives on one GPU: what is left over on two does not make one more.
    assert own.streams(200_000) == 2 * (own.kv_tokens // 200_000)


def test_what_does_not_fit_is_reported_with_its_numbers() -> None:
    (problem,) = plan_engine(engine(), PUBLISHED["120b"], is_mxfp4=False).problems
    assert re.search(r"H100 has 79\.1 GiB\. Weights take 217\.6 GiB.*jobs\.quantize SOURCE --format mxfp4", problem)
    long = engine(tensor_parallel_size=1, max_seq_len=131_072, enable_chunked_prefill=True)
    assert not plan_engine(long, PUBLISHED["120b"], is_mxfp4=True).problems
    (problem,) = plan_engine(long, PUBLISHED["120b"], is_mxfp4=True, overhead_gib=6).problems
    assert "One request of max_seq_len=131072 takes 9.00 GiB" in problem
    (problem,) = plan_engine(engine(gpu="L4"), PUBLISHED["20b"], is_mxfp4=True).problems
    assert "L4 (SM 89) has no kernels" in problem
    with pytest.raises(ConfigError, match=r"engine\.tensorrt_llm\.gpu: L4 \(SM 89\) has no kernels"):
        llm_arguments(engine(gpu="L4"), is_mxfp4=True)


def test_there_is_a_preset_for_every_case() -> None:
    expected = {
        f"gpt_oss_{size}_{gpu}_{goal}"
        for size in ("20b", "120b")
        for gpu in ("h100", "h200", "b200")
        for goal in ("latency", "throughput")
    }
    assert {path.stem for path in PRESETS} == expected


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_fit_and_every_value_has_its_source(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = load_config(ServeConfig, path).models
    size = path.stem.split("_")[2]
    config = model.engine.tensorrt_llm
    assert config is not None
    plan = plan_engine(config, PUBLISHED[size], is_mxfp4=True)
    assert not plan.problems
    # Never tried on a GPU: its end token is the grammar's own last terminal (docs/tensorrt-llm.md).
    assert config.guided_decoding_backend is None
    assert model.replicas.max_ongoing_requests == plan.max_streams
    assert main(["serve", "plan", str(path), "--size", size, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["llm_arguments"] == llm_arguments(config, is_mxfp4=True)
    section = path.read_text().split("        gpu: ")[1].split("    replicas:")[0].splitlines()[1:]
    assert all("  # " in line or line.strip() == "env:" for line in section)


def test_the_command_reports_what_fits(tmp_path: Path, tiny_oss: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint's own sizes; exit 1 and the reason when it does not fit; mistakes without a traceback."""
    config = tmp_path / "serve.yaml"
    section = "{engine: tensorrt_llm, tensorrt_llm: {gpu: H200}}"
    config.write_text(f"models: [{{model_id: m, checkpoint: {tiny_oss}, engine: {section}}}]\n")
    assert main(["serve", "plan", str(config)]) == 0
    assert "weights (BF16)         0.0 GiB" in capsys.readouterr().out
    assert main(["serve", "plan", str(config), "--size", "120b", "--bf16"]) == 1
    assert "DOES NOT FIT: each H200 has 139.8 GiB. Weights take 217.6 GiB" in capsys.readouterr().out
    assert main(["serve", "plan", str(config), "--set", "models.0.checkpoint=/nowhere"]) == 1
    assert "To plan before there is a checkpoint: --size" in capsys.readouterr().err
    assert main(["serve", "plan", str(config), "--bf16"]) == 1
    assert "--bf16 needs --size" in capsys.readouterr().err
    config.write_text(f"models: [{{model_id: m, checkpoint: {tiny_oss}}}]\n")
    assert main(["serve", "plan", str(config)]) == 1
    assert "only engine: tensorrt_llm and engine: llama_cpp can be planned" in capsys.readouterr().err


def test_the_command_plans_llama_cpp(published_base: PublishedBase, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped config by the published sizes; a checkpoint's own; what cannot be planned, without a traceback."""
    laptop = ["serve", "plan", "serve_apps/configs/gpt_oss_20b_laptop.yaml"]
    assert main([*laptop, "--size", "20b"]) == 0
    said = capsys.readouterr().out
    assert "disk: GGUF file         12.83 GiB  mxfp4" in said
    assert "main memory needed      14.08 GiB" in said
    assert main([*laptop, "--size", "20b", "--json"]) == 0
    (fields,) = json.loads(capsys.readouterr().out)
    assert fields["weights_bytes"] == 13_779_630_336
    checkpoint = f"models.0.checkpoint={published_base.adopted}"
    windows = "models.0.engine.llama_cpp.swa_full=false"
    assert main([*laptop, "--set", checkpoint]) == 0
    capsys.readouterr()
    cached = []
    for setting in ("models.0.engine.llama_cpp.swa_full=true", windows):
        assert main([*laptop, "--size", "20b", "--set", setting, "--json"]) == 0
        cached.append(json.loads(capsys.readouterr().out)[0]["kv_cache_bytes"])
    assert cached[1] < 0.6 * cached[0]
    assert main([*laptop, "--size", "20b", "--bf16"]) == 1
    assert "weights: mxfp4 needs a checkpoint with experts in MXFP4" in capsys.readouterr().err
    assert main([*laptop, "--size", "20b", "--set", "models.0.replicas.num_gpus=1"]) == 1
    assert "llama.cpp can be planned on CPUs only" in capsys.readouterr().err


@pytest.mark.parametrize("amount", ["-5", "nan", "inf"])
def test_overhead_must_be_an_amount_of_memory(amount: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "plan", str(PRESETS[0]), "--size", "20b", f"--overhead-gib={amount}"]) == 1
    assert "expected GiB of memory per GPU, 0 or more" in capsys.readouterr().err
