"""`tuneyard serve plan`: calculates what an engine needs, without a GPU or a checkpoint.

GPUs for TensorRT-LLM; main memory and disk for llama.cpp.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.core.command import Commands, add_command, add_overrides
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.core.resources import GIB
from tuneyard.planning.gpus import OVERHEAD_GIB
from tuneyard.planning.published_models import PUBLISHED

if TYPE_CHECKING:
    from tuneyard.configs.serve import ModelAppConfig
    from tuneyard.planning.llama_cpp.replica_plan import LlamaCppPlan
    from tuneyard.planning.serve_plan import ServePlan

LENGTHS = (1024, 2048, 8192, 32768)
"""Request lengths in tokens that the plan lists, if they are below max_seq_len."""

EPILOG = """\
Only calculates; starts nothing. Sizes are those of the config's checkpoint. Before there is a checkpoint, --size says
which published model to plan for. Exit code 1 when an engine does not fit; the output then shows numbers and the fix.

For TensorRT-LLM: whether weights and KV cache fit the GPUs, and for how many requests. For llama.cpp on CPUs: main
memory and disk of a replica, beside what this machine has. The config names no machine, so the exit code is 0.

examples:
  tuneyard serve plan serve_apps/configs/gpt_oss_20b_laptop.yaml --size 20b
  tuneyard serve plan serve_apps/configs/gpt_oss_20b_h100_latency.yaml --size 20b
  tuneyard serve plan serve_apps/configs/gpt_oss_120b_h200_throughput.yaml --size 120b --bf16
  tuneyard serve plan my.yaml --set models.0.engine.tensorrt_llm.max_seq_len=32768 --json
"""


def add_plan_command(commands: Commands) -> None:
    """Adds `plan`."""
    plan = add_command(commands, "plan", "calculate memory, and for how many requests it is enough", EPILOG)
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
    if not 0 <= arguments.overhead_gib < math.inf:
        raise ConfigError(f"--overhead-gib {arguments.overhead_gib}: expected GiB of memory per GPU, 0 or more.")
    config = load_config(ServeConfig, arguments.config, arguments.overrides)
    results = []
    for model in config.models:
        if model.engine.llama_cpp is None and model.engine.tensorrt_llm is None:
            raise ConfigError(
                f"{model.model_id}: the engine is {model.engine.engine}; only engine: tensorrt_llm and "
                "engine: llama_cpp can be planned."
            )
        sizes, is_mxfp4 = _model_sizes(model, arguments.size, arguments.bf16)
        if model.engine.llama_cpp is not None:
            llama_cpp = _plan_llama_cpp(model, sizes, is_mxfp4)
            results.append((_llama_cpp_as_json(model, llama_cpp), _llama_cpp_lines(model, llama_cpp), True))
        else:
            assert model.engine.tensorrt_llm is not None
            plan = plan_engine(model.engine.tensorrt_llm, sizes, is_mxfp4=is_mxfp4, overhead_gib=arguments.overhead_gib)
            fits = not plan.problems
            results.append((_plan_as_json(model, plan, is_mxfp4), _plan_lines(model, plan, is_mxfp4), fits))
    if arguments.json:
        print(json.dumps([fields for fields, _, _ in results], indent=2))
    else:
        print("\n".join(line for _, lines, _ in results for line in lines))
    return 0 if all(fits for _, _, fits in results) else 1


def _plan_llama_cpp(model: ModelAppConfig, sizes: Mapping[str, Any], is_mxfp4: bool) -> LlamaCppPlan:
    from tuneyard.planning.llama_cpp.replica_plan import plan_llama_cpp

    assert model.engine.llama_cpp is not None
    if model.gpus_per_replica or model.engine.llama_cpp.n_gpu_layers:
        raise ConfigError(
            f"{model.model_id}: llama.cpp can be planned on CPUs only, but the config has replicas.num_gpus="
            f"{model.gpus_per_replica:g} and n_gpu_layers={model.engine.llama_cpp.n_gpu_layers}. Remove both to plan."
        )
    return plan_llama_cpp(model.engine.llama_cpp, sizes, is_mxfp4=is_mxfp4)


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


def _plan_lines(model: ModelAppConfig, plan: ServePlan, is_mxfp4: bool) -> Iterator[str]:
    dtype = "MXFP4" if is_mxfp4 else "BF16"
    yield f"{model.model_id}: a replica on {plan.gpus} × {plan.gpu.name} ({plan.gpu.memory_gib:.1f} GiB each)"
    yield f"  weights ({dtype})    {plan.weights_gib:8.1f} GiB per GPU, in the layout of its kernels"
    yield f"  activations etc.   {plan.overhead_gib:8.1f} GiB per GPU, assumed"
    tokens = plan.kv_tokens * plan.places
    yield f"  KV cache           {plan.kv_cache_gib:8.1f} GiB per GPU: {tokens:,} tokens in the replica"
    if plan.problems:
        yield from (f"  DOES NOT FIT: {problem}" for problem in plan.problems)
        return
    for length in _listed_lengths(plan):
        yield f"  streams of {length:>6} tokens (prompt and answer): {plan.streams(length)}"


def _llama_cpp_lines(model: ModelAppConfig, plan: LlamaCppPlan) -> Iterator[str]:
    engine = model.engine.llama_cpp
    assert engine is not None
    tokens = f"{plan.slots} × {plan.max_model_len:,} tokens, keys {engine.cache_type_k}, values {engine.cache_type_v}"
    pages = plan.weights_bytes - plan.repacked_bytes
    compute = f"batches of {engine.n_ubatch} tokens, flash_attn: {engine.flash_attn}"
    yield f"{model.model_id}: a replica on CPUs, with llama.cpp"
    yield _row("disk: checkpoint", plan.checkpoint_bytes)
    yield _row("disk: GGUF file", plan.weights_bytes, f"{engine.weights}, in the node's cache")
    yield _row("weights", pages, "pages of the GGUF file")
    yield _row("repacked weights", plan.repacked_bytes, "copies in the order that the kernels of x86 and ARM read")
    yield _row("KV cache", plan.kv_cache_bytes, tokens)
    yield _row("compute buffers", plan.compute_bytes, compute)
    yield _row("process", plan.process_bytes, "Python, Ray Serve, tokenizer")
    yield _row("main memory needed", plan.needed_bytes)
    if plan.repacked_bytes:
        note = "also holds the pages of the file that were repacked, so the file is read once"
        yield _row("with room to load", plan.needed_bytes + plan.repacked_bytes, note)
    memory, free = _this_machine()
    note = "" if memory > plan.needed_bytes else "TOO LITTLE for this replica"
    yield _row("this machine: memory", memory, note)
    yield _row("this machine: cache", free, "free on its disk")


def _row(name: str, size: int, note: str = "") -> str:
    return f"  {name:<21} {size / GIB:7.2f} GiB  {note}".rstrip()


def _llama_cpp_as_json(model: ModelAppConfig, plan: LlamaCppPlan) -> dict[str, Any]:
    return {"model_id": model.model_id, **dataclasses.asdict(plan), "needed_bytes": plan.needed_bytes}


def _this_machine() -> tuple[int, int]:
    """Bytes of main memory, and those that are free on the disk of the node's cache."""
    from tuneyard.checkpoints.node_cache import cache_folder

    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), shutil.disk_usage(existing).free


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
