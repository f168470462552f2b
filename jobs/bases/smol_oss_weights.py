"""Rewrites SmolLM2's weights as those of a GPT-OSS model that computes the same function.

SmolLM2's MLP computes down(silu(gate x) * up x). A GPT-OSS expert computes down((u + 1) * g * sigmoid(1.702 g)). They
are equal with g = gate x / 1.702 and u = up x - 1. The MLP is cut into EXPERTS slices, one per expert. A router of
zeros selects all of them with weight 1/EXPERTS. Attention sinks of -1e4 take no attention, and YaRN with factor 1 is
plain RoPE.

One thing is not equal: GPT-OSS clamps g and u at 7. UP_SCALE makes the up projection so small that u stays below the
clamp, and the down projection compensates for it. Rare large values of g are still clamped.
"""

from __future__ import annotations

import torch

from jobs.bases.smollm2 import HEADS

LAYERS, HIDDEN, INNER, VOCABULARY = 30, 576, 1536, 49152
"""SmolLM2-135M's sizes; INNER is the width of its MLP."""

ROPE_THETA, NORM_EPSILON = 100_000.0, 1e-5
EXPERTS = 4
ALPHA = 1.702
"""The factor inside the sigmoid of GPT-OSS's experts."""

UP_SCALE = 1 / 8
INERT_SINK = -1e4
EMBEDDING = "model.embed_tokens.weight"
SAME_ROW_DIFFERENCE = 0.01
"""Two embedding rows count as the same if no value differs by more: after rounding to bf16 they would be nearly equal.
"""


def separate_rows(embedding: torch.Tensor, token_ids: list[int]) -> torch.Tensor:
    """The embedding [vocabulary, hidden] with a new row for each of the tokens whose row equals that of another token.

    Quantisation gave 17 of SmolLM2's untrained tokens the same row. An adapter below the output layer cannot
    distinguish such tokens: each would get 1/17 of the probability at most. A new row is drawn from the distribution of
    all rows, as is usual for tokens that are added to a vocabulary. The generator's seed is fixed.
    """
    generator = torch.Generator().manual_seed(0)
    rows = embedding.clone()
    mean, deviation = embedding.mean(dim=0), embedding.std(dim=0)
    for token_id in token_ids:
        # The nearest row is the token's own, at distance 0; the second nearest is that of another token.
        nearest_other = (embedding - embedding[token_id]).abs().amax(dim=1).topk(2, largest=False).values[1]
        if nearest_other < SAME_ROW_DIFFERENCE:
            rows[token_id] = mean + deviation * torch.randn(embedding.shape[1], generator=generator)
    return rows


def rewrite_weights(llama: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """GPT-OSS's weights from SmolLM2's, both by transformers' tensor names, as the module's docstring describes."""
    embedding = llama[EMBEDDING]
    weights = {EMBEDDING: embedding, "lm_head.weight": embedding.clone()}
    weights["model.norm.weight"] = llama["model.norm.weight"]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        old = {name.removeprefix(prefix): w for name, w in llama.items() if name.startswith(prefix)}
        new = {**_attention_and_norms(old), **_experts(old)}
        weights |= {prefix + name: tensor for name, tensor in new.items()}
    return weights


def _attention_and_norms(old: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A layer's attention and norms: the same weights, zero biases, and sinks without effect."""
    new = {name: w for name, w in old.items() if name.endswith("norm.weight")}
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
        weight = old[f"self_attn.{projection}.weight"]
        new[f"self_attn.{projection}.weight"] = weight
        new[f"self_attn.{projection}.bias"] = torch.zeros(weight.shape[0])
    new["self_attn.sinks"] = torch.full((HEADS,), INERT_SINK)
    return new


def _experts(old: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A layer's experts and router. Matrices are [expert, in, out]; gate and up alternate along the last axis."""

    def slice_by_expert(weight: torch.Tensor) -> torch.Tensor:
        return weight.reshape(EXPERTS, INNER // EXPERTS, HIDDEN)

    gate = slice_by_expert(old["mlp.gate_proj.weight"]) / ALPHA
    up = slice_by_expert(old["mlp.up_proj.weight"]) * UP_SCALE
    down = slice_by_expert(old["mlp.down_proj.weight"].T) * (ALPHA / UP_SCALE * EXPERTS)
    bias = torch.tensor([0.0, -1.0]).repeat(EXPERTS, INNER // EXPERTS)
    return {
        "mlp.router.weight": torch.zeros(EXPERTS, HIDDEN),
        "mlp.router.bias": torch.zeros(EXPERTS),
        "mlp.experts.gate_up_proj": torch.stack([gate, up], dim=2).flatten(1, 2).transpose(1, 2),
        "mlp.experts.gate_up_proj_bias": bias,
        "mlp.experts.down_proj": down,
        "mlp.experts.down_proj_bias": torch.zeros(EXPERTS, HIDDEN),
    }
