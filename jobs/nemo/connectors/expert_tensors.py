"""Transforms between one tensor of all experts (Hugging Face, OpenAI) and one tensor per expert (NeMo)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from nemo.collections.llm.gpt.model import gpt_oss
from nemo.lightning import io

import jobs.nemo.setup.patched
from jobs.nemo.connectors.tensor_names import NemoTensorNames

TensorFunction = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class ExpertTensorNames:
    """A source format's names of the experts' tensors: the gate and up projection, and the down projection."""

    gate_up_weight: str
    gate_up_bias: str
    down_weight: str
    down_bias: str


def expert_import_transforms(
    source: ExpertTensorNames, names: NemoTensorNames, to_nemo_layout: TensorFunction
) -> list[Any]:
    """NeMo's state transforms that split the source's tensors into one per expert.

    `to_nemo_layout` turns the weights of all experts into NeMo's [expert, out, in]. The source interleaves the rows of
    the gate and the up projection; NeMo has all gate rows before all up rows.
    """
    return [
        io.state_transform(
            source.gate_up_weight,
            names.expert("linear_fc1", "weight"),
            lambda weights: [gpt_oss._interleave(expert) for expert in to_nemo_layout(weights)],
        ),
        io.state_transform(
            source.gate_up_bias,
            names.expert("linear_fc1", "bias"),
            lambda biases: [gpt_oss._interleave(expert) for expert in biases],
        ),
        io.state_transform(
            source.down_weight, names.expert("linear_fc2", "weight"), lambda weights: [*to_nemo_layout(weights)]
        ),
        io.state_transform(source.down_bias, names.expert("linear_fc2", "bias"), lambda biases: [*biases]),
    ]


def expert_export_transforms(target: ExpertTensorNames, names: NemoTensorNames) -> list[Any]:
    """NeMo's state transforms that stack one tensor per expert into Hugging Face's: the inverse of the import."""
    gate_up, down = _stack_experts(gpt_oss._uninterleave), _stack_experts(lambda tensor: tensor)
    return [
        io.state_transform(names.expert("linear_fc1", "weight"), target.gate_up_weight, gate_up),
        io.state_transform(names.expert("linear_fc1", "bias"), target.gate_up_bias, gate_up),
        io.state_transform(names.expert("linear_fc2", "weight"), target.down_weight, down),
        io.state_transform(names.expert("linear_fc2", "bias"), target.down_bias, down),
    ]


def _stack_experts(to_hf_rows: TensorFunction) -> Callable[..., torch.Tensor]:
    def stack(*experts: torch.Tensor) -> torch.Tensor:
        tensor = torch.stack([to_hf_rows(expert) for expert in experts])
        return tensor.transpose(-1, -2) if tensor.dim() == 3 else tensor

    return stack
