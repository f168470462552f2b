"""Completions from a NeMo checkpoint by Megatron-Core's inference engine: token ids in, token ids out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.safety.hub_access import disable_hub_access
from tuneyard.checkpoints.safety.written_folders import check_written_folder
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.planning.nemo_parallelism import resolve_parallelism


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How to sample completions. Megatron's engine accepts top_p or top_k, not both."""

    max_tokens: int = 512
    """New tokens per completion, at most."""

    temperature: float = 0.0
    """0 selects the most likely token each time; top_p and top_k are then ignored."""

    top_p: float = 0.0
    """Nucleus sampling; 0 turns it off."""

    top_k: int = 0
    """Sample among this many of the most likely tokens; 0 turns it off."""

    seed: int = 17


def generate_per_worker(loop_config: dict[str, Any]) -> None:
    """TorchTrainer's function per worker: generates this worker's share; rank 0 sends all completions to the driver."""
    import torch.distributed as dist

    disable_hub_access()
    config = FinetuneConfig.model_validate_json(loop_config["config"])
    completions = generate(
        config, Path(loop_config["checkpoint"]), loop_config["prompts"], GenerationSettings(**loop_config["settings"])
    )
    if dist.get_rank() == 0:
        loop_config["results"].send(completions)


def generate(
    config: FinetuneConfig, checkpoint: Path, prompts: Sequence[list[int]], settings: GenerationSettings
) -> list[list[int]]:
    """Token ids of one completion per prompt, in the order of `prompts`; every rank gets all of them.

    `checkpoint` is a folder in NeMo 2 format, with or without LoRA adapters. Call this on every rank of an existing
    process group, or in a single process without one. Raises CheckpointError if this platform did not write the folder,
    or if it has changed since.
    """
    check_written_folder(checkpoint)
    import torch
    from megatron.core.inference.common_inference_params import CommonInferenceParams
    from nemo.collections.llm import inference

    import jobs.nemo.setup.patched
    from jobs.nemo.recipe import megatron_precision

    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    trainer = _build_trainer(config, megatron_precision(config), checkpoint)
    model, tokenizer = inference.setup_model_and_tokenizer(checkpoint, trainer, dtype, enable_flash_decode=False)
    longest = max(len(prompt) for prompt in prompts) + settings.max_tokens
    model.inference_wrapper_config.inference_max_seq_length = longest
    model.inference_context.max_sequence_length = longest

    rank, ranks = _prompt_ranks(resolve_parallelism(config).expert)
    share = range(rank, len(prompts), ranks)
    results = inference.generate(
        model=model,
        tokenizer=_TokenIdTokenizer(tokenizer.eod, tokenizer.vocab_size),
        prompts=[json.dumps(prompts[index]) for index in share],
        random_seed=settings.seed,
        inference_params=CommonInferenceParams(
            num_tokens_to_generate=settings.max_tokens,
            temperature=settings.temperature or 1.0,
            top_k=1 if settings.temperature == 0 else settings.top_k,
            top_p=0.0 if settings.temperature == 0 else settings.top_p,
        ),
    )
    completions = {
        index: [int(token) for token in result.generated_tokens] for index, result in zip(share, results, strict=True)
    }
    if ranks > 1:
        completions = _gather(completions, ranks)
    return [completions[index] for index in range(len(prompts))]


def _build_trainer(config: FinetuneConfig, precision: Any, checkpoint: Path) -> Any:
    """A NeMo trainer for inference with the parallelism and the workers of `config`."""
    import fiddle
    from nemo import lightning as nl

    from jobs.nemo.process_group import local_world_size, use_existing_process_group

    parallelism = resolve_parallelism(config)
    strategy = nl.MegatronStrategy(
        tensor_model_parallel_size=parallelism.tensor,
        pipeline_model_parallel_size=parallelism.pipeline,
        expert_model_parallel_size=parallelism.expert,
        expert_tensor_parallel_size=1,
        setup_optimizers=False,
        replace_progress_bar=False,
        # With a parallel load, each rank reads a part of the adapters and exchanges it, but NeMo loads only the rank's
        # own part into the model and reports nothing (nemo/collections/llm/inference/base.py, 2.7.3,
        # load_model_state_dict(strict=False)).
        ckpt_parallel_load=not _has_adapters(checkpoint),
    )
    use_existing_process_group(strategy)
    return nl.Trainer(
        accelerator="gpu" if config.workers.use_gpu else "cpu",
        devices=local_world_size(),
        num_nodes=config.workers.num_workers // local_world_size(),
        strategy=strategy,
        plugins=fiddle.build(precision),
        logger=False,
        enable_checkpointing=False,
    )


def _has_adapters(checkpoint: Path) -> bool:
    return (checkpoint / "weights" / "adapter_metadata.json").exists()


def _prompt_ranks(expert_parallel_size: int) -> tuple[int, int]:
    """This rank's number and the number of ranks among which the prompts are divided."""
    from megatron.core import parallel_state

    if expert_parallel_size > 1:  # all ranks take part in every forward pass, so each processes all prompts
        return 0, 1
    return parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()


def _gather(completions: dict[int, list[int]], ranks: int) -> dict[int, list[int]]:
    """The completions of all data-parallel ranks, by index of the prompt."""
    import torch.distributed as dist
    from megatron.core import parallel_state

    per_rank: list[Any] = [None] * ranks
    dist.all_gather_object(per_rank, completions, group=parallel_state.get_data_parallel_group())
    return {index: ids for share in per_rank for index, ids in share.items()}


class _TokenIdTokenizer:
    """Tokenizer for Megatron's engine whose text is a JSON list of token ids, so that no text is tokenized again."""

    bos = None
    pad = 0

    def __init__(self, eod: int, vocab_size: int) -> None:
        self.eod = eod
        self.vocab_size = vocab_size

    def tokenize(self, prompt: str) -> list[int]:
        ids: list[int] = json.loads(prompt)
        return ids

    def detokenize(self, tokens: Any, *_: Any, **__: Any) -> str:
        return json.dumps([int(token) for token in tokens])
