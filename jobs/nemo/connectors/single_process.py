"""The trainer with which connectors load and save a NeMo model in one process."""

from __future__ import annotations

from typing import Any

import torch
from nemo.lightning import MegatronStrategy, Trainer

import jobs.nemo.setup.patched


def single_process_trainer(accelerator: str, **strategy_options: Any) -> Trainer:
    """A trainer of one device, with NeMo's strategy, whose process group opens no port.

    NeMo's own (nemo/lightning/io/connector.py, 2.7.3) look for a free port, close it and open it again, or take the one
    that MASTER_PORT names. If another process has taken it meanwhile, the import or export ends. If a process group
    exists already, the trainer uses that one.
    """
    trainer = Trainer(devices=1, accelerator=accelerator, strategy=MegatronStrategy(**strategy_options))
    # Only now: the trainer copies its arguments.
    trainer.strategy.store = torch.distributed.HashStore()
    return trainer
