"""The tokenizer of a checkpoint as GGUF keys: tokens by id, their types, merges, and the ids at which answers end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf

from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.core.errors import CheckpointError
from tuneyard.harmony.tokenizer_file.tokenizer_rules import O200K_PATTERN, SPECIAL_TOKENS

STOP_TOKENS = ("<|return|>", "<|call|>")
"""At which an assistant's turn ends. The first is the file's eos."""


def add_vocabulary(writer: gguf.GGUFWriter, checkpoint: Path, size: int) -> None:
    """Adds the tokenizer of a checkpoint to the file, with its own ids. `size` is vocab_size in config.json.

    Special tokens become control tokens. Raises CheckpointError for a tokenizer that llama.cpp would not reproduce.
    """
    tokenizer = read_json(checkpoint / "tokenizer.json")
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    by_id = {token_id: token for token, token_id in tokenizer["model"]["vocab"].items()}
    by_id |= {token_id: token["content"] for token_id, token in added.items()}
    ids = {token["content"]: token_id for token_id, token in added.items()}
    if missing := [token for token in SPECIAL_TOKENS if token not in ids]:
        raise CheckpointError(f"{checkpoint}: tokenizer.json lacks harmony's special tokens {', '.join(missing)}.")
    if max(by_id) >= size:
        raise CheckpointError(f"{checkpoint}: tokenizer.json has the id {max(by_id)}, but vocab_size is {size}.")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(checkpoint, tokenizer))
    # A row of the embeddings without a token still needs a name.
    writer.add_token_list([by_id.get(token_id, f"[PAD{token_id}]") for token_id in range(size)])
    writer.add_token_types([_token_type(token_id, by_id, added) for token_id in range(size)])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(ids[STOP_TOKENS[0]])
    # llama.cpp finds the other stop tokens by their names, Ollama by this key.
    writer.add_array("tokenizer.ggml.eos_token_ids", [ids[token] for token in STOP_TOKENS])
    if "<|startoftext|>" in ids:
        writer.add_bos_token_id(ids["<|startoftext|>"])
    if "<|endoftext|>" in ids:
        writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def add_bare_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """Adds `size` control tokens without the text and the meaning that the tokenizer gives them.

    llama.cpp then returns every id as it is generated, and ends no answer by itself. With text it withholds the ids of
    tokens that end within a UTF-8 character, and it has rules of its own for tokens that are named as harmony's.
    """
    # Of the tokenizers that llama.cpp knows, this one has no token that ends an answer unless the file names one.
    writer.add_tokenizer_model("bert")
    writer.add_token_list([f"{token_id}," for token_id in range(size)])
    writer.add_token_types([gguf.TokenType.CONTROL] * size)


def _token_type(token_id: int, by_id: Mapping[int, str], added: Mapping[int, Mapping[str, Any]]) -> gguf.TokenType:
    if token_id in added:
        return gguf.TokenType.CONTROL if added[token_id]["special"] else gguf.TokenType.USER_DEFINED
    return gguf.TokenType.NORMAL if token_id in by_id else gguf.TokenType.UNUSED


def _pre_tokenizer(checkpoint: Path, tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name of how the tokenizer splits text before it merges (src/llama-vocab.cpp)."""
    match tokenizer:
        case {"normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}}:
            return "gpt-2"
        case {
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False},
                ],
            },
        }:
            return "smollm"
        case {
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                    {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
                ],
            },
        } if pattern == O200K_PATTERN:
            return "gpt-4o"
    raise CheckpointError(
        f"{checkpoint}: tokenizer.json splits text in a way that has no name in llama.cpp: "
        f"{tokenizer.get('pre_tokenizer')!r}. Supported are the tokenizers of openai/gpt-oss, GPT-2 and SmolLM2."
    )
