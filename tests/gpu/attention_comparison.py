"""Attention implementations on one model: how far their logits and gradients are from fp32, and how long they take."""

from __future__ import annotations

from typing import Any

import torch


def use_implementations(model: Any, attention: str, experts: str | None) -> None:
    """Switches a loaded model to other implementations of attention and experts."""
    model.set_attn_implementation(attention)
    if experts is not None:
        model.set_experts_implementation(experts)


def random_batch(config: Any, rows: int, length: int, padding: int = 0) -> dict[str, torch.Tensor]:
    """Random tokens [rows, length] on the GPU; the last row ends with `padding` places of padding."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, config.vocab_size - 2000, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    if padding:
        mask[-1, length - padding :] = 0
    return {"input_ids": ids.cuda(), "attention_mask": mask.cuda()}


def logits_and_gradient(model: Any, batch: dict[str, Any], places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """fp32 logits at the first `places` of each row, and the gradient of the first layer's queries, after one backward.

    The loss is the mean of the logits' log-sum-exp, which depends on every place before.
    """
    weight = model.model.layers[0].self_attn.q_proj.weight
    model.zero_grad()
    weight.requires_grad_(True)
    logits = model(**batch, use_cache=False, logits_to_keep=torch.arange(places, device="cuda")).logits.float()
    logits.logsumexp(-1).mean().backward()
    gradient = weight.grad.float().clone()
    model.zero_grad()
    return logits.detach(), gradient


def relative_error(found: torch.Tensor, reference: torch.Tensor) -> float:
    """‖found − reference‖ / ‖reference‖."""
    return float((found.float() - reference.float()).norm() / reference.float().norm())


def mean_kl(reference: torch.Tensor, found: torch.Tensor) -> float:
    """KL(reference || found) in nats, the mean over places."""
    left, right = reference.log_softmax(-1), found.log_softmax(-1)
    return float((left.exp() * (left - right)).sum(-1).mean())


def milliseconds(run: Any, repeats: int = 5) -> float:
    """The median time of `run`, by CUDA's events, after one call to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return round(sorted(times)[len(times) // 2], 2)
