"""Weights and optimizer state of a sharded run as safetensors files, which any number of workers can read.

PyTorch's distributed checkpoints (DCP) with the storage of Hugging Face's format: each worker writes its own part into
its own folder, and the folders are merged. DCP's own storage is not used because it reads pickles.
"""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from tuneyard.core.errors import CheckpointError

WEIGHTS, OPTIMIZER = "sharded_weights", "sharded_optimizer"
"""Folders of a checkpoint. The names are those of the model's trained parameters."""


def is_sharded_checkpoint(checkpoint: Path) -> bool:
    """Whether `checkpoint` was written by a sharded run."""
    return (checkpoint / WEIGHTS).is_dir()


def save_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Writes this worker's part of the trained weights. Every worker must call it, each with its own folder."""
    _save(_trained(model), checkpoint / WEIGHTS)


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Reads the trained weights into `model`, sharded or not. `checkpoint` holds the files of all workers.

    Raises torch's CheckpointException, which is no Exception, if files are missing or do not fit the model.
    """
    _load(_trained(model), checkpoint / WEIGHTS)


def whole_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The trained weights of a sharded model, whole, in main memory. Every worker must call it."""
    return {
        name: (weight.full_tensor() if isinstance(weight, DTensor) else weight).cpu()
        for name, weight in _trained(model).items()
    }


def save_optimizer(model: torch.nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Writes this worker's part of the optimizer state, like save_weights."""
    _save(_moments(model, optimizer), checkpoint / OPTIMIZER)


def load_optimizer(model: torch.nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Reads the state into the new AdamW `optimizer` of `model`, but not its learning rates."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            # As torch/optim/adamw.py makes it at the first step.
            on_device = group["fused"] or group["capturable"]
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device if on_device else None),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    _load(_moments(model, optimizer), checkpoint / OPTIMIZER)


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}


def _moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The tensors of the optimizer's state by the names of their parameters."""
    return {
        # safetensors reads no part of a tensor without axes, such as the number of steps.
        f"{name}.{key}": value if value.dim() else value[None]
        for name, weight in model.named_parameters()
        for key, value in optimizer.state.get(weight, {}).items()
    }


def _save(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    layers = {name: int(found[1]) + 2 if (found := re.search(r"\blayers\.(\d+)\.", name)) else 1 for name in tensors}
    # A file per layer: a worker copies one file at a time into main memory.
    writer = HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=layers, save_distributed=True)
    save(dict(tensors), storage_writer=writer)


def _load(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    with warnings.catch_warnings():
        # An export reads without a process group, on purpose.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(dict(tensors), storage_reader=_WholeTensors(str(folder)), no_dist=not dist.is_initialized())


class _WholeTensors(HuggingFaceStorageReader):
    """Refuses files that lack a part of a tensor. DCP itself would leave that part of the target as it was."""

    def read_metadata(self) -> Metadata:
        metadata: Metadata = super().read_metadata()
        for name, tensor in metadata.state_dict_metadata.items():
            assert isinstance(tensor, TensorStorageMetadata)
            if sum(math.prod(chunk.sizes) for chunk in tensor.chunks) < math.prod(tensor.size):
                raise CheckpointError(
                    f"{self.path}: no file holds some part of {name}, so a worker's files are missing. Copy the "
                    "checkpoint again with all its files, or give an older one."
                )
        return metadata
