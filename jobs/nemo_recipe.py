"""NeMo's own GPT-OSS recipe from our config, for any NeMo-Run executor: `build_recipe(config)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.training.backend import TokenFiles
from tuneyard.configs.finetune import FinetuneConfig

if TYPE_CHECKING:
    import nemo_run


def build_recipe(config: FinetuneConfig, tokens: TokenFiles | None = None) -> nemo_run.Partial:
    """`llm.finetune` as a run.Partial with the config's data, model sizes, parallelism, optimizer and base.

    Without `tokens`, validates the data and renders it first. The base must have been imported to
    jobs.nemo.folders.nemo_base(config) before the recipe runs. Raises ConfigError for what Megatron could not run,
    DatasetError and CheckpointError for data or a base that jobs.finetune would refuse too.
    """
    from jobs.nemo.recipe import build_recipe as build
    from jobs.runs.preflight import prepare_run

    if tokens is None:
        prepared = prepare_run(config)
        heldout = prepared.heldout_tokens.path if prepared.heldout_tokens is not None else None
        tokens = TokenFiles(prepared.train_tokens.path, heldout)
    return build(config, tokens)
