"""The load-balancing loss of the expert router, which does not depend on how the rows of a step become batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssTopKRouter

from tuneyard.training_data.token_table import IGNORED_LABEL


@contextlib.contextmanager
def recorded_router_logits(model: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects the router's logits [tokens, experts] of each layer from the forward passes within the context."""
    layers: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, outputs: layers.append(outputs[0]))
        for module in model.modules()
        if isinstance(module, GptOssTopKRouter)
    ]
    try:
        yield layers
    finally:
        for hook in hooks:
            hook.remove()


def balance_loss_sum(
    layers: list[torch.Tensor], segments: torch.Tensor, labels: torch.Tensor, experts_per_token: int
) -> torch.Tensor:
    """The balance loss of each conversation times its number of labelled tokens, summed over the batch.

    Divided by the labelled tokens of an optimizer step, it is the step's mean over conversations, weighted like the
    loss itself: the same in one batch or in several, on one worker or on many, packed or padded. transformers' own is
    the balance of a whole batch, so it depends on the batch.

    The loss of a conversation and a layer is the number of experts × Σ over experts of (tokens routed to the expert /
    tokens) × (mean probability of the expert): equation 4 of Switch Transformer (arXiv 2101.03961), over a sequence as
    in DeepSeek-V3 (arXiv 2412.19437, equation 17). It is at least `experts_per_token`; the mean is taken over layers.

    `layers` holds logits [rows × length, experts]; `segments` and `labels` are [rows, length], with a negative segment
    for padding.
    """
    rows, _ = segments.shape
    count = int(segments.max()) + 1
    conversation = (torch.arange(rows, device=segments.device)[:, None] * count + segments).flatten()
    real = (segments >= 0).flatten()
    conversation = conversation[real]
    ones = torch.ones_like(conversation, dtype=torch.float32)
    tokens = ones.new_zeros(rows * count).index_add(0, conversation, ones).clamp(min=1)
    labelled = (labels.flatten()[real] != IGNORED_LABEL).float()
    weights = ones.new_zeros(rows * count).index_add(0, conversation, labelled)
    total = ones.new_zeros(())
    for logits in layers:
        probabilities = logits[real].float().softmax(-1)
        chosen = torch.zeros_like(probabilities).scatter(1, logits[real].topk(experts_per_token, -1).indices, 1.0)
        shape = (rows * count, logits.shape[-1])
        share = ones.new_zeros(shape).index_add(0, conversation, chosen) / tokens[:, None]
        mean = ones.new_zeros(shape).index_add(0, conversation, probabilities) / tokens[:, None]
        total = total + (weights * (share * mean).sum(-1)).sum() * logits.shape[-1]
    return total / max(1, len(layers))
