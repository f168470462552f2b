"""Proves that smol-oss-135m has SmolLM2's loss, on bundled texts."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

from jobs.bases.checkpoint_files import DATA
from jobs.bases.smol_oss_weights import HIDDEN, INNER, LAYERS, NORM_EPSILON, ROPE_THETA, VOCABULARY
from jobs.bases.smollm2 import HEADS, KEY_VALUE_HEADS, SmolLM2
from tuneyard.arithmetic.cpu_products import use_fast_products
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.core.errors import CheckpointError

MAX_NLL_DIFFERENCE_UNCLAMPED = 0.005
"""Largest allowed difference of the loss without GPT-OSS's clamp, nats per token, on prose.

Measured: 0.001, which is the rounding to bf16; 0.0000 without rounding.
"""

MAX_NLL_DIFFERENCE = 0.01
"""Largest allowed difference of the loss with the clamp, nats per token, over PROOF_TEXTS.

Measured: 0.012 on the first text and 0.003 on the second, nearly all of it from the clamp on the gate.
"""

PROOF_TEXTS = {"prose": DATA / "nll_text.txt", "licence": CHECKOUT / "LICENSE"}
MAX_PROOF_CHARACTERS = 3000
"""Characters of each text that are compared."""


def prove_rewrite(folder: Path, source: SmolLM2, tokenizer: Tokenizer) -> dict[str, float | str | int]:
    """Compares both models' losses on PROOF_TEXTS, in fp32 arithmetic; the result is the manifest's `proof`.

    `nll_source` and `nll_result` are means over all texts, in nats per token. Raises CheckpointError if the losses
    differ by more than is allowed, with or without the clamp.
    """
    use_fast_products()
    texts = {
        name: tokenizer.encode(path.read_text(encoding="utf-8")[:MAX_PROOF_CHARACTERS]).ids
        for name, path in PROOF_TEXTS.items()
    }
    original = LlamaForCausalLM.from_pretrained(None, config=_llama_config(), state_dict=dict(source.weights))
    source_nll = {name: _mean_nll(original, ids) for name, ids in texts.items()}
    result = GptOssForCausalLM.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager")
    result_nll = {name: _mean_nll(result, ids) for name, ids in texts.items()}
    for layer in result.model.layers:
        layer.mlp.experts.limit = math.inf
    unclamped = _mean_nll(result, texts["prose"])
    _check_loss(unclamped, source_nll["prose"], MAX_NLL_DIFFERENCE_UNCLAMPED)
    tokens = {name: len(ids) - 1 for name, ids in texts.items()}
    means = [sum(nll[name] * tokens[name] for name in texts) / sum(tokens.values()) for nll in (source_nll, result_nll)]
    _check_loss(means[1], means[0], MAX_NLL_DIFFERENCE)
    return {
        "nll_source": means[0],
        "nll_result": means[1],
        "nll_tokens": sum(tokens.values()),
        "nll_unclamped_prose": unclamped,
        **{f"nll_source_{name}": nll for name, nll in source_nll.items()},
        **{f"nll_result_{name}": nll for name, nll in result_nll.items()},
    }


def _check_loss(result: float, source: float, allowed: float) -> None:
    # Written so that a NaN fails.
    if not abs(result - source) <= allowed:
        raise CheckpointError(
            f"The rewritten model is not SmolLM2: its loss is {result:.4f} nats per token, SmolLM2's {source:.4f} "
            f"(allowed difference {allowed}). Nothing was published. Report this with your versions of torch and "
            "transformers."
        )


def _llama_config() -> LlamaConfig:
    return LlamaConfig(
        num_hidden_layers=LAYERS,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        vocab_size=VOCABULARY,
        max_position_embeddings=8192,
        rms_norm_eps=NORM_EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
    )


def _mean_nll(model: LlamaForCausalLM | GptOssForCausalLM, ids: list[int]) -> float:
    """The mean negative log-likelihood of the text's tokens, nats per token."""
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        return float(model.eval()(tokens, labels=tokens, use_cache=False).loss)
