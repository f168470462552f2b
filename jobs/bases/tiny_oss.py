"""tiny-oss-random: a random GPT-OSS of 0.4M parameters for tests, with every part of the architecture active."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from jobs.bases.checkpoint_files import DATA, Report, write_weights
from jobs.bases.published_form import published_config, write_published_form
from tuneyard.checkpoints.layout.gpt_oss import expected_tensors
from tuneyard.checkpoints.layout.portable import make_checkpoint_portable
from tuneyard.checkpoints.manifest import CheckpointManifest
from tuneyard.checkpoints.manifest_writer import software_versions, write_manifest
from tuneyard.checkpoints.staging import publish_checkpoint, staging_folder
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError

NAME = "tiny-oss-random"
VOCABULARY = 1024
SPECIAL_TOKENS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|constrain|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
)

SIZES = {
    "head_dim": 64,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
    "sliding_window": 16,
    "vocab_size": VOCABULARY,
}
"""The fields of config.json that differ from the published ones."""

CARD = """\
---
license: apache-2.0
---
# tiny-oss-random

A random, untrained model for Tuneyard's tests: its answers are nonsense. Its files have the form in which OpenAI
publishes GPT-OSS and `tuneyard models adopt` leaves it, but its experts are BF16.

2 layers (one with a sliding window of 16, one with full attention), 8 experts of which 2 are used per token, attention
sinks with an effect, YaRN with factor 32, a byte-level vocabulary of 1024 with harmony's special tokens. The same seed
gives the same bytes.
"""


def build_tiny_oss(target: Path, seed: int = 0, report: Report = lambda _: None) -> CheckpointManifest:
    """Builds the checkpoint at `target`, which must not exist.

    The same seed gives the same weights on every machine. Raises CheckpointError if `target` exists.
    """
    with staging_folder(target) as staging:
        report("training a small tokenizer on jobs/data")
        tokenizer = train_tiny_tokenizer()
        report(f"drawing random weights (seed {seed})")
        config = published_config(SIZES, tokenizer)
        write_published_form(staging, config, tokenizer)
        make_checkpoint_portable(staging)
        write_weights(staging, random_weights(config, seed))
        (staging / "README.md").write_text(CARD, encoding="utf-8")
        write_manifest(
            staging,
            kind="base",
            name=NAME,
            version=str(seed),
            config={"seed": seed},
            software=software_versions("tuneyard", "torch", "transformers", "safetensors", "tokenizers"),
        )
        manifest = validate_hf_checkpoint(staging)
        publish_checkpoint(staging, target)
    return manifest


def random_weights(config: Mapping[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Random weights by tensor name for the content of a config.json.

    They are large enough that router and logits have no near-ties.
    """
    return {
        name: _uniform(f"{seed}/{name}", shape) * _spread(name, shape) + (1.0 if name.endswith("norm.weight") else 0.0)
        for name, shape in expected_tensors(config).items()
    }


def _spread(name: str, shape: tuple[int, ...]) -> float:
    """The standard deviation of a tensor's values.

    A matrix keeps the size of its input; router and output head double it.
    """
    if name.endswith("norm.weight"):
        return 0.1
    if name.endswith(("bias", "sinks")) or len(shape) == 1:
        return 1.0 if name.endswith("sinks") else 0.2
    if name.endswith("embed_tokens.weight"):
        return 1.0
    fan_in = shape[-2] if ".experts." in name else shape[-1]
    return (2.0 if name.endswith(("router.weight", "lm_head.weight")) else 1.0) / math.sqrt(fan_in)


def _uniform(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Uniform numbers of variance 1, made with SHAKE-256 from `key`.

    Unlike those of torch's generators, they are equal on every machine and in every version.
    """
    count = int(torch.Size(shape).numel())
    data = bytearray(hashlib.shake_256(key.encode()).digest(2 * count))
    return torch.frombuffer(data, dtype=torch.int16).reshape(shape) / 2**15 * math.sqrt(3)


def train_tiny_tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer of VOCABULARY tokens; any Unicode text survives encoding and decoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    if (size := tokenizer.get_vocab_size()) != VOCABULARY:
        raise CheckpointError(
            f"{DATA}: its texts give a vocabulary of {size} tokens, and {VOCABULARY} are needed. Restore the files of "
            "this folder."
        )
    return tokenizer


def _texts() -> Iterator[str]:
    """The texts that the tokenizer is trained on: the files of jobs/data."""
    yield (DATA / "nll_text.txt").read_text(encoding="utf-8")
    for path in sorted(DATA.glob("brindle_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield from (message["content"] for message in json.loads(line)["messages"])
