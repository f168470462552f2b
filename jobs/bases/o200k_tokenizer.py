"""The tokenizer of the published GPT-OSS models, built from tiktoken's ranks: o200k with harmony's special tokens."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from tuneyard.harmony.encoding import load_harmony_encoding
from tuneyard.harmony.tokenizer_file.tokenizer_rules import O200K_PATTERN

SPECIAL = {
    199998: "<|startoftext|>", 199999: "<|endoftext|>", 200002: "<|return|>", 200003: "<|constrain|>",
    200005: "<|channel|>", 200006: "<|start|>", 200007: "<|end|>", 200008: "<|message|>", 200012: "<|call|>",
}  # fmt: skip


def build_o200k_tokenizer() -> Tokenizer:
    """The tokenizer, as tokenizer.json of gpt-oss-20b holds it. Takes seconds.

    The names of the reserved special tokens are not the published ones. Raises like load_harmony_encoding.
    """
    load_harmony_encoding()
    lines = (Path(os.environ["TIKTOKEN_ENCODINGS_BASE"]) / "o200k_base.tiktoken").read_text().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}
    letters = _byte_alphabet()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = []
    for token in ranks:
        # Every split into two tokens, in the order in which BPE would merge them, as transformers converts tiktoken.
        halves = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += sorted(halves, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    tokenizer = Tokenizer(
        models.BPE(
            vocab={spelled[token]: rank for token, rank in ranks.items()},
            merges=[(spelled[left], spelled[right]) for left, right in merges],
            ignore_merges=True,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(O200K_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    names = [SPECIAL.get(i, f"<|reserved_{i}|>") for i in range(199998, 200013)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    return tokenizer


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's byte-level alphabet (openai/gpt-2, src/encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
