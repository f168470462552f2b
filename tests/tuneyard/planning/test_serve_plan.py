"""Plans against the sizes that NVIDIA and OpenAI publish, presets against the plan, mistakes with both numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tuneyard.cli.main import main
from tuneyard.configs.serve import EngineConfig, ModelAppConfig, ServeConfig
from tuneyard.configs.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.serve_plan import PUBLISHED, loaded_expert_bytes, plan_engine, weight_bytes
from tuneyard.planning.tensorrt_llm_arguments import llm_arguments, parallelism_problems

PRESETS = sorted(Path("serve_apps/configs").glob("gpt_oss_*.yaml"))


def engine(**fields: Any) -> TensorRTLLMConfig:
    return TensorRTLLMConfig.model_validate({"gpu": "H100"} | fields)


@pytest.mark.parametrize(
    ("size", "mxfp4", "bf16"),
    # total_size in openai/gpt-oss-20b's and -120b's model.safetensors.index.json; twice their parameters.
    [("20b", 13_761_264_768, 41_829_514_368), ("120b", 65_248_815_744, 233_658_313_344)],
)
def test_weights_are_the_published_ones_to_the_byte(size: str, mxfp4: int, bf16: int) -> None:
    assert sum(weight_bytes(PUBLISHED[size], is_mxfp4=True)) == mxfp4
    assert sum(weight_bytes(PUBLISHED[size], is_mxfp4=False)) == bf16


def test_loaded_experts_are_larger() -> None:
    for gpu in (GPUS["H100"], GPUS["B200"]):
        for sizes in PUBLISHED.values():
            experts, _ = weight_bytes(sizes, is_mxfp4=True)
            assert 1.05 < loaded_expert_bytes(sizes, gpu) / experts < 1.15


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


def test_what_does_not_fit_is_said_with_its_numbers() -> None:
    (problem,) = plan_engine(engine(), PUBLISHED["120b"], is_mxfp4=False).problems
    assert re.search(r"H100 has 79\.1 GiB; weights take 217\.6.*jobs\.quantize SOURCE --format mxfp4", problem)
    long = engine(tensor_parallel_size=1, max_seq_len=131_072, enable_chunked_prefill=True)
    assert not plan_engine(long, PUBLISHED["120b"], is_mxfp4=True).problems
    (problem,) = plan_engine(long, PUBLISHED["120b"], is_mxfp4=True, overhead_gib=6).problems
    assert "one request of max_seq_len=131072 takes 9.00" in problem
    (problem,) = plan_engine(engine(gpu="L4"), PUBLISHED["20b"], is_mxfp4=True).problems
    assert "L4 (SM 89) has no kernels" in problem
    with pytest.raises(ConfigError, match=r"L4 \(SM 89\) cannot run"):
        llm_arguments(engine(gpu="L4"), is_mxfp4=True)


def test_kernels_that_do_not_run_are_refused(tmp_path: Path) -> None:
    def problems(is_mxfp4: bool, **fields: Any) -> str:
        return "\n".join(plan_engine(engine(**fields), PUBLISHED["20b"], is_mxfp4=is_mxfp4).problems)

    assert "TRTLLM does not run on H100" in problems(True, moe_backend="TRTLLM")
    assert "runs MXFP4 experts only" in problems(False, gpu="B200", moe_backend="TRTLLM")
    assert "TRITON is made for Hopper" in problems(True, gpu="B200", moe_backend="TRITON")
    (tmp_path / "draft.safetensors").write_bytes(b"\0" * 2**20)
    plain, drafted = (
        plan_engine(engine(**fields), PUBLISHED["20b"], is_mxfp4=True)
        for fields in ({}, {"speculative": {"model": str(tmp_path)}})
    )
    assert drafted.weights_gib - plain.weights_gib == pytest.approx(1 / 1024)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tensor_parallel_size": 3}, "tensor_parallel_size=3 does not divide the model's 64 attention heads"),
        ({"tensor_parallel_size": 6}, "8 key/value heads: neither divides the other"),
        (
            {"tensor_parallel_size": 64, "gpu": "B200", "moe_expert_parallel_size": 64},
            "64 does not divide .* 32 experts",
        ),
        ({"tensor_parallel_size": 2, "moe_expert_parallel_size": 1}, "deal out whole experts only"),
    ],
)
def test_gpus_that_do_not_divide_the_model(fields: dict[str, Any], message: str) -> None:
    assert re.search(message, "\n".join(parallelism_problems(engine(**fields), PUBLISHED["20b"])))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_seq_len": 9000}, r"prompts may have 8999 tokens .* max_num_tokens=8192: set enable_chunked_prefill"),
        ({"max_seq_len": 100, "max_input_len": 100}, "no room for an answer"),
        ({"tensor_parallel_size": 4, "moe_expert_parallel_size": 3}, "=3 does not divide tensor_parallel_size=4"),
        ({"enable_attention_dp": True}, "needs more than one GPU"),
        ({"attention_dp_batching_wait_iters": 3}, "belongs to enable_attention_dp"),
    ],
)
def test_fields_that_contradict_each_other(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine(**fields)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"engine": {"engine": "tensorrt_llm"}}, "goes with engine: tensorrt_llm"),
        ({"engine": {"tensorrt_llm": {"gpu": "H100"}}}, "found engine: transformers"),
        ({"engine": {"engine": "tensorrt_llm", "tensorrt_llm": {"gpu": "H100"}, "threads": 2}}, "threads is no field"),
        (
            {"engine": {"engine": "tensorrt_llm", "tensorrt_llm": {"gpu": "H100"}}, "replicas": {"num_gpus": 2}},
            r"num_gpus=2\.0, but the engine takes tensor_parallel_size=1",
        ),
    ],
)
def test_a_model_and_its_engine(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelAppConfig.model_validate({"model_id": "m", "checkpoint": "c"} | model)


def test_arguments_follow_the_gpu() -> None:
    hopper, blackwell = (llm_arguments(engine(gpu=gpu), is_mxfp4=True) for gpu in ("H200", "B200"))
    assert (hopper["moe_config"], blackwell["moe_config"]) == ({"backend": "TRITON"}, {"backend": "TRTLLM"})
    assert (hopper["kv_cache_config"]["dtype"], blackwell["kv_cache_config"]["dtype"]) == ("auto", "fp8")
    assert llm_arguments(engine(gpu="B200"), is_mxfp4=False)["moe_config"] == {"backend": "CUTLASS"}
    assert llm_arguments(engine(tensor_parallel_size=4), is_mxfp4=True)["moe_expert_parallel_size"] == 4
    assert (hopper["max_seq_len"], hopper["max_input_len"]) == (8192, 8191)
    assert llm_arguments(engine(cuda_graph_max_batch_size=0), is_mxfp4=True)["cuda_graph_config"] is None
    drafted = llm_arguments(engine(speculative={"model": "/draft"}), is_mxfp4=True)["speculative_config"]
    assert drafted == {"speculative_model": "/draft", "max_draft_len": 3, "allow_advanced_sampling": True}
    guided = llm_arguments(engine(guided_decoding_backend="xgrammar"), is_mxfp4=True)
    assert (guided["guided_decoding_backend"], guided["skip_tokenizer_init"]) == ("xgrammar", False)


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
    assert model.replicas.max_ongoing_requests == plan.max_streams
    assert main(["serve", "plan", str(path), "--size", size, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["llm_arguments"] == llm_arguments(config, is_mxfp4=True)
    section = path.read_text().split("        gpu: ")[1].split("    replicas:")[0].splitlines()[1:]
    assert all("  # " in line or line.strip() == "env:" for line in section)


def test_the_command_says_what_fits(tmp_path: Path, tiny_oss: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint's own sizes; exit 1 and the reason when it does not fit; mistakes without a traceback."""
    config = tmp_path / "serve.yaml"
    section = "{engine: tensorrt_llm, tensorrt_llm: {gpu: H200}}"
    config.write_text(f"models: [{{model_id: m, checkpoint: {tiny_oss}, engine: {section}}}]\n")
    assert main(["serve", "plan", str(config)]) == 0
    assert "weights (BF16)         0.0 GiB" in capsys.readouterr().out
    assert main(["serve", "plan", str(config), "--size", "120b", "--bf16"]) == 1
    assert "DOES NOT FIT: each H200 has 139.8 GiB; weights take 217.6" in capsys.readouterr().out
    assert main(["serve", "plan", str(config), "--set", "models.0.checkpoint=/nowhere"]) == 1
    assert "To plan before there is a checkpoint: --size" in capsys.readouterr().err
    assert main(["serve", "plan", str(config), "--bf16"]) == 1
    assert "--bf16 goes with --size" in capsys.readouterr().err
    assert main(["serve", "plan", "serve_apps/configs/demo_cpu.yaml"]) == 1
    assert "only engine: tensorrt_llm can be planned" in capsys.readouterr().err


def test_other_engines_keep_their_fields() -> None:
    assert EngineConfig(threads=2).gpus == 0
    model = ModelAppConfig(model_id="m", checkpoint="c")
    assert model.gpus_per_replica == 0
