"""The callback that seeds adapters and dropout with the run's seed.

NeMo 2.7.3 seeds every run with 1234 when it creates its parallel groups, before it builds the model
(nemo/lightning/_strategy_lib.py, init_parallel_ranks).
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from nemo.lightning import megatron_init

import jobs.nemo.setup.patched

SEED_LIMIT = 2**31 - 1


class RunSeed(pl.Callback):
    """Seeds all random generators of this rank, Megatron's included, before the model and its adapters are built.

    Pipeline stages get different seeds, as with NeMo's own. A seed of 0 or below is valid too.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:  # noqa: ARG002  # Lightning's names
        """Called by Lightning after the groups exist and before configure_model."""
        # NeMo accepts positive seeds only.
        megatron_init._set_random_seed(1 + self.seed % SEED_LIMIT)
