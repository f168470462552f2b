"""`tuneyard serve plan`: what TensorRT-LLM engines need, before there is a GPU or even a checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4, read_json
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.configs.serve import ModelAppConfig, ServeConfig
from tuneyard.core.command import Commands, add_command, add_overrides
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.planning.serve_plan import OVERHEAD_GIB, PUBLISHED, ServePlan, plan_engine
from tuneyard.planning.tensorrt_llm_arguments import llm_arguments

LENGTHS = (1024, 2048, 8192, 32768)
EPILOG = """\
By arithmetic, nothing is started. The sizes are those of the checkpoint; where there is none yet, --size says
which published model to plan for (in MXFP4, or --bf16). Exit code 1 when something does not fit, with the numbers
and the fix.

examples:
  tuneyard serve plan serve_apps/configs/gpt_oss_20b_h100_latency.yaml --size 20b
  tuneyard serve plan serve_apps/configs/gpt_oss_120b_h200_throughput.yaml --size 120b --bf16
  tuneyard serve plan my.yaml --set models.0.engine.tensorrt_llm.max_seq_len=32768 --json
"""


def add_plan_command(below: Commands) -> None:
    """Adds `plan`."""
    plan = add_command(below, "plan", "whether weights and KV cache fit, and how many streams", EPILOG)
    plan.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a deployment")
    add_overrides(plan)
    plan.add_argument("--size", choices=sorted(PUBLISHED), help="plan for this published model, not for the checkpoint")
    plan.add_argument("--bf16", action="store_true", help="with --size: as finetuning exports it, not MXFP4")
    plan.add_argument(
        "--overhead-gib",
        type=float,
        default=OVERHEAD_GIB,
        metavar="GIB",
        help=f"activations and the rest, per GPU; assumed: {OVERHEAD_GIB:g}. TensorRT-LLM's log states the truth",
    )
    plan.add_argument("--json", action="store_true", help="machine-readable, with the arguments of TensorRT-LLM")
    plan.set_defaults(action=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    if arguments.bf16 and not arguments.size:
        raise ConfigError("--bf16 goes with --size: a checkpoint says itself what it is.")
    config = load_config(ServeConfig, arguments.config, arguments.overrides)
    results = []
    for model in config.models:
        if model.engine.tensorrt_llm is None:
            raise ConfigError(
                f"{model.model_id}: engine: {model.engine.engine}; only engine: tensorrt_llm can be planned so."
            )
        sizes, quantised = _sizes(model, arguments.size, arguments.bf16)
        plan = plan_engine(model.engine.tensorrt_llm, sizes, is_mxfp4=quantised, overhead_gib=arguments.overhead_gib)
        results.append((model, plan, quantised))
    if arguments.json:
        print(json.dumps([_as_json(*result) for result in results], indent=2))
    else:
        for model, plan, quantised in results:
            _show(model, plan, quantised)
    return 1 if any(plan.problems for _, plan, _ in results) else 0


def _sizes(model: ModelAppConfig, size: str | None, bf16: bool) -> tuple[Mapping[str, Any], bool]:
    """config.json and whether the experts are MXFP4."""
    if size is not None:
        return PUBLISHED[size], not bf16
    from tuneyard.checkpoints.references import resolve_checkpoint

    location = resolve_checkpoint(model.checkpoint)
    folder = local_folder(location)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{model.model_id}: {folder} holds no config.json. To plan before there is a checkpoint: --size 20b|120b."
        )
    return read_json(folder / "config.json"), is_mxfp4(folder)


def _show(model: ModelAppConfig, plan: ServePlan, quantised: bool) -> None:
    kind = "MXFP4" if quantised else "BF16"
    print(f"{model.model_id}: a replica on {plan.gpus} × {plan.gpu.name} ({plan.gpu.memory_gib:.1f} GiB each)")
    print(f"  weights ({kind})    {plan.weights_gib:8.1f} GiB per GPU, as its kernels lay them out")
    print(f"  activations etc.   {plan.overhead_gib:8.1f} GiB per GPU, assumed")
    tokens = plan.kv_tokens * plan.places
    print(f"  KV cache           {plan.kv_cache_gib:8.1f} GiB per GPU: {tokens:,} tokens in the replica")
    if plan.problems:
        for problem in plan.problems:
            print(f"  DOES NOT FIT: {problem}")
        return
    for length in sorted({*(n for n in LENGTHS if n < plan.max_seq_len), plan.max_seq_len}):
        print(f"  streams of {length:>6} tokens (prompt and answer): {plan.streams(length)}")


def _as_json(model: ModelAppConfig, plan: ServePlan, quantised: bool) -> dict[str, Any]:
    assert model.engine.tensorrt_llm is not None
    lengths = sorted({*(n for n in LENGTHS if n < plan.max_seq_len), plan.max_seq_len})
    arguments = None if plan.problems else llm_arguments(model.engine.tensorrt_llm, is_mxfp4=quantised)
    return {
        "model_id": model.model_id,
        **dataclasses.asdict(plan),
        "streams": {str(length): plan.streams(length) for length in lengths},
        "llm_arguments": arguments,
    }
