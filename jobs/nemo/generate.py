"""Completions from a NeMo checkpoint, by NeMo's own inference engine: token ids in, token ids out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.configs.finetune import FinetuneConfig


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """Sampling. Temperature 0 is greedy; of top_p and top_k, one at most is not 0 (Megatron's engine)."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 0.0
    top_k: int = 0
    seed: int = 17


def generate_per_worker(loop_config: dict[str, Any]) -> None:
    """Entry point for TorchTrainer: every worker generates its share, rank 0 sends all completions into `results`."""
    import torch.distributed as dist

    config = FinetuneConfig.model_validate_json(loop_config["config"])
    found = generate(
        config, Path(loop_config["checkpoint"]), loop_config["prompts"], GenerationSettings(**loop_config["settings"])
    )
    if dist.get_rank() == 0:
        loop_config["results"].send(found)


def generate(
    config: FinetuneConfig, checkpoint: Path, prompts: Sequence[list[int]], settings: GenerationSettings
) -> list[list[int]]:
    """The completions' token ids, in the order of the prompts. `checkpoint` is a folder in NeMo 2 format, adapters too.

    Runs in every process of a group that exists, or in a single process.
    """
    from jobs.nemo.recipe import megatron_precision  # before nemo: applies the fixes

    # isort: split
    import fiddle
    import torch
    import torch.distributed as dist
    from megatron.core import parallel_state
    from megatron.core.inference.common_inference_params import CommonInferenceParams
    from nemo import lightning as nl
    from nemo.collections.llm import inference

    from jobs.nemo.process_group import keep_process_group, local_world_size
    from tuneyard.planning.nemo_parallelism import resolve_parallelism

    parallelism = resolve_parallelism(config)
    strategy = nl.MegatronStrategy(
        tensor_model_parallel_size=parallelism.tensor,
        pipeline_model_parallel_size=parallelism.pipeline,
        expert_model_parallel_size=parallelism.expert,
        expert_tensor_parallel_size=1,
        setup_optimizers=False,
        replace_progress_bar=False,
        # Loaded in shares, only a rank's own share of the adapters gets into the model: NeMo throws the exchanged ones
        # away without a word (nemo/collections/llm/inference/base.py, 2.7.3, load_model_state_dict(strict=False)).
        ckpt_parallel_load=not _has_adapters(checkpoint),
    )
    keep_process_group(strategy)
    trainer = nl.Trainer(
        accelerator="gpu" if config.workers.use_gpu else "cpu",
        devices=local_world_size(),
        num_nodes=config.workers.num_workers // local_world_size(),
        strategy=strategy,
        plugins=fiddle.build(megatron_precision(config)),
        logger=False,
        enable_checkpointing=False,
    )
    dtype = torch.bfloat16 if config.training.precision == "bf16" else torch.float32
    model, tokenizer = inference.setup_model_and_tokenizer(checkpoint, trainer, dtype, enable_flash_decode=False)
    longest = max(len(prompt) for prompt in prompts) + settings.max_tokens
    model.inference_wrapper_config.inference_max_seq_length = longest
    model.inference_context.max_sequence_length = longest

    # With experts shared out, all ranks must walk through the same prompts together.
    ranks = 1 if parallelism.expert > 1 else parallel_state.get_data_parallel_world_size()
    rank = 0 if parallelism.expert > 1 else parallel_state.get_data_parallel_rank()
    share = list(range(rank, len(prompts), ranks))
    found = inference.generate(
        model=model,
        tokenizer=_TokenIds(tokenizer.eod, tokenizer.vocab_size),
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
        index: [int(token) for token in result.generated_tokens] for index, result in zip(share, found, strict=True)
    }
    if ranks > 1:
        gathered: list[Any] = [None] * ranks
        dist.all_gather_object(gathered, completions, group=parallel_state.get_data_parallel_group())
        completions = {index: ids for part in gathered for index, ids in part.items()}
    return [completions[index] for index in range(len(prompts))]


def _has_adapters(checkpoint: Path) -> bool:
    return (checkpoint / "weights" / "adapter_metadata.json").exists()


class _TokenIds:
    """What Megatron's engine takes for a tokenizer: its "text" is a JSON list of ids, which nothing can reinterpret."""

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
