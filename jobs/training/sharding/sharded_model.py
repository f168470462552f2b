"""A model that is divided among the workers of the process group by FSDP2; worker 0 alone reads its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssDecoderLayer

from jobs.training.trainable_model import empty_trainable_model
from tuneyard.configs.finetune import FinetuneConfig


def load_sharded_model(
    config: FinetuneConfig, load_model: Callable[[FinetuneConfig], Any], device: torch.device
) -> Any:
    """The model of `load_model` on this worker's `device`, divided among the workers of the process group.

    Every worker must call it. Worker 0 alone calls `load_model`, in main memory, and sends each tensor to all workers
    in turn, which keep their part of it. A GPU holds at most its part of the model and the largest tensor.
    """
    model = empty_trainable_model(config)
    # Not in state_dict: the frequencies of the rotary embedding.
    buffers = {name: buffer.to(device) for name, buffer in model.named_buffers()}
    shard(model, device.type)
    model.to_empty(device=device)
    for name, buffer in buffers.items():
        model.get_buffer(name).copy_(buffer)
    whole = load_model(config).state_dict() if dist.get_rank() == 0 else {}
    set_model_state_dict(model, whole, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    return model


def shard(model: Any, device_type: str) -> None:
    """Divides every parameter of `model` along its first axis among the workers of the process group.

    A layer is gathered when it computes, forward and backward, and divided again afterwards; so are the embeddings. The
    output head stays whole from its forward to its backward pass, which is the next thing that is computed.
    """
    mesh = init_device_mesh(device_type, (dist.get_world_size(),))
    layers = [module for module in model.modules() if isinstance(module, GptOssDecoderLayer)]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    # Weights that both share must be in one group, which is the root's.
    if embeddings.weight is not head.weight:
        fully_shard(embeddings, mesh=mesh)
        fully_shard(head, mesh=mesh, reshard_after_forward=False)
    fully_shard(model, mesh=mesh)
