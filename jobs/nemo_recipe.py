"""`build_recipe(config)`: NeMo's own GPT-OSS recipe with a run's values, for any NeMo-Run executor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.training.backend import TokenFiles
from tuneyard.configs.finetune import FinetuneConfig

if TYPE_CHECKING:
    import nemo_run


def build_recipe(config: FinetuneConfig, tokens: TokenFiles | None = None) -> nemo_run.Partial:
    """`llm.finetune` as a run.Partial with the config's data, model sizes, parallelism, optimizer and base.

    Without `tokens` it validates the data and renders it first. Before the recipe runs, import the base to
    `jobs.nemo.checkpoint_folders.nemo_base(config)`. Raises ConfigError for a config that Megatron cannot run, and the
    DatasetError or CheckpointError that jobs.finetune would raise for the data or the base.
    """
    from jobs.nemo.recipe import build_recipe as build
    from jobs.runs.preflight import prepare_run

    if tokens is None:
        prepared = prepare_run(config)
        heldout = prepared.heldout_tokens.path if prepared.heldout_tokens is not None else None
        tokens = TokenFiles(prepared.train_tokens.path, heldout)
    return build(config, tokens)
