"""FrozenLayers: a model's embeddings and leading layers that training does not change, taken out of the model."""

from __future__ import annotations

import copy
from typing import Any, Self

import peft
import torch


class FrozenLayers:
    """The embeddings and leading frozen layers of a GPT-OSS model. The model keeps its other layers.

    `detach` leaves a layer that returns its input in place of each layer that it takes, so that a forward pass of the
    model from `inputs_embeds` begins at the first trained layer, and every name of a weight and every layer's index
    stay. The weights are shared, not copied.
    """

    def __init__(self, decoder: Any, count: int) -> None:
        """`decoder` is a GptOssModel, of which the first `count` layers are taken."""
        self.count = count
        self._lower = copy.copy(decoder)
        self._lower._modules = decoder._modules | {
            "layers": torch.nn.ModuleList(decoder.layers[:count]),
            "norm": torch.nn.Identity(),
        }
        self._lower.eval()
        for index in range(count):
            decoder.layers[index] = _SkippedLayer()

    @classmethod
    def detach(cls, model: Any) -> Self | None:
        """Takes the frozen layers out of `model`; None, with the model unchanged, if the first layer is trained.

        Nor are layers taken if their embeddings are trained, or if the model has dropout: then the outputs of a row
        are not the same twice.
        """
        causal = model.get_base_model() if isinstance(model, peft.PeftModel) else model
        decoder = causal.model
        if _is_trained(decoder.embed_tokens) or decoder.config.attention_dropout > 0:
            return None
        trained = [_is_trained(layer) for layer in decoder.layers]
        count = trained.index(True) if True in trained else len(trained)
        return cls(decoder, count) if count else None

    @property
    def width(self) -> int:
        """The number of values of a token."""
        return int(self._lower.config.hidden_size)

    def outputs(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, attention_mask: torch.Tensor | dict[str, Any]
    ) -> torch.Tensor:
        """The last frozen layer's outputs [1, tokens, width] of one row without padding; arguments as the model's."""
        with torch.no_grad():
            outputs = self._lower(
                input_ids=input_ids, position_ids=position_ids, attention_mask=attention_mask, use_cache=False
            )
        hidden: torch.Tensor = outputs.last_hidden_state
        return hidden


class _SkippedLayer(torch.nn.Module):
    """Returns its input in place of a layer that was taken out of the model."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
        return hidden_states


def _is_trained(module: torch.nn.Module) -> bool:
    return any(weight.requires_grad for weight in module.parameters())
