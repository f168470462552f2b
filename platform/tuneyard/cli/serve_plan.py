"""`tuneyard serve plan`: calculates whether TensorRT-LLM engines fit their GPUs, without a GPU or a checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.command import Commands, add_command, add_overrides
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.planning.gpus import OVERHEAD_GIB
from tuneyard.planning.published_models import PUBLISHED

if TYPE_CHECKING:
    from tuneyard.configs.serve import ModelAppConfig
    from tuneyard.planning.serve_plan import ServePlan

LENGTHS = (1024, 2048, 8192, 32768)
"""Request lengths in tokens that the plan lists, if they are below max_seq_len."""

EPILOG = """\
Only calculates; starts nothing. Sizes are those of the config's checkpoint. Before there is a checkpoint, --size says
which published model to plan for. Exit code 1 when an engine does not fit; the output then shows numbers and the fix.

examples:
  tuneyard serve plan serve_apps/configs/gpt_oss_20b_h100_latency.yaml --size 20b
  tuneyard serve plan serve_apps/configs/gpt_oss_120b_h200_throughput.yaml --size 120b --bf16
  tuneyard serve plan my.yaml --set models.0.engine.tensorrt_llm.max_seq_len=32768 --json
"""


def add_plan_command(commands: Commands) -> None:
    """Adds `plan`."""
    plan = add_command(
        commands, "plan", "calculate whether weights and KV cache fit, and for how many requests", EPILOG
    )
    plan.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of a deployment")
    add_overrides(plan)
    plan.add_argument(
        "--size", choices=sorted(PUBLISHED), help="plan for this published model (default: the config's checkpoint)"
    )
    plan.add_argument(
        "--bf16", action="store_true", help="with --size: weights in BF16, as finetuning exports them (default: MXFP4)"
    )
    plan.add_argument(
        "--overhead-gib",
        type=float,
        default=OVERHEAD_GIB,
        metavar="GIB",
        help="GiB per GPU for activations, CUDA graphs and the like (default: %(default)g, an assumption; "
        "TensorRT-LLM's log reports the real value)",
    )
    plan.add_argument("--json", action="store_true", help="print JSON, including the arguments for TensorRT-LLM")
    plan.set_defaults(action=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    from tuneyard.configs.serve import ServeConfig
    from tuneyard.core.config_loading import load_config
    from tuneyard.planning.serve_plan import plan_engine

    if arguments.bf16 and not arguments.size:
        raise ConfigError("--bf16 needs --size: a checkpoint's own files say whether it is quantised.")
    config = load_config(ServeConfig, arguments.config, arguments.overrides)
    results = []
    for model in config.models:
        if model.engine.tensorrt_llm is None:
            raise ConfigError(
                f"{model.model_id}: the engine is {model.engine.engine}; only engine: tensorrt_llm can be planned."
            )
        sizes, is_mxfp4 = _model_sizes(model, arguments.size, arguments.bf16)
        plan = plan_engine(model.engine.tensorrt_llm, sizes, is_mxfp4=is_mxfp4, overhead_gib=arguments.overhead_gib)
        results.append((model, plan, is_mxfp4))
    if arguments.json:
        print(json.dumps([_plan_as_json(*result) for result in results], indent=2))
    else:
        for model, plan, is_mxfp4 in results:
            _print_plan(model, plan, is_mxfp4)
    return 1 if any(plan.problems for _, plan, _ in results) else 0


def _model_sizes(model: ModelAppConfig, size: str | None, is_bf16: bool) -> tuple[Mapping[str, Any], bool]:
    """Returns the content of config.json, and whether the experts are in MXFP4."""
    from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4
    from tuneyard.checkpoints.layout.json_files import read_json
    from tuneyard.checkpoints.node_cache import local_folder
    from tuneyard.checkpoints.references import resolve_checkpoint

    if size is not None:
        return PUBLISHED[size], not is_bf16
    folder = local_folder(resolve_checkpoint(model.checkpoint))
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{model.model_id}: {folder} holds no config.json. To plan before there is a checkpoint: --size 20b|120b."
        )
    return read_json(folder / "config.json"), is_mxfp4(folder)


def _print_plan(model: ModelAppConfig, plan: ServePlan, is_mxfp4: bool) -> None:
    dtype = "MXFP4" if is_mxfp4 else "BF16"
    print(f"{model.model_id}: a replica on {plan.gpus} × {plan.gpu.name} ({plan.gpu.memory_gib:.1f} GiB each)")
    print(f"  weights ({dtype})    {plan.weights_gib:8.1f} GiB per GPU, in the layout of its kernels")
    print(f"  activations etc.   {plan.overhead_gib:8.1f} GiB per GPU, assumed")
    tokens = plan.kv_tokens * plan.places
    print(f"  KV cache           {plan.kv_cache_gib:8.1f} GiB per GPU: {tokens:,} tokens in the replica")
    if plan.problems:
        for problem in plan.problems:
            print(f"  DOES NOT FIT: {problem}")
        return
    for length in _listed_lengths(plan):
        print(f"  streams of {length:>6} tokens (prompt and answer): {plan.streams(length)}")


def _plan_as_json(model: ModelAppConfig, plan: ServePlan, is_mxfp4: bool) -> dict[str, Any]:
    from tuneyard.planning.tensorrt_llm_arguments import llm_arguments

    assert model.engine.tensorrt_llm is not None
    arguments = None if plan.problems else llm_arguments(model.engine.tensorrt_llm, is_mxfp4=is_mxfp4)
    return {
        "model_id": model.model_id,
        **dataclasses.asdict(plan),
        "streams": {str(length): plan.streams(length) for length in _listed_lengths(plan)},
        "llm_arguments": arguments,
    }


def _listed_lengths(plan: ServePlan) -> list[int]:
    return sorted({*(n for n in LENGTHS if n < plan.max_seq_len), plan.max_seq_len})
