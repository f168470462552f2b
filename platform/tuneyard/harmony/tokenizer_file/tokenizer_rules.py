"""Rules about a checkpoint's tokenizer.json: the tokenizer of GPT-OSS, and nothing that text of a user could turn into
something else.

The tokenizers library does whatever the file says: it drops merges by chance, replaces text, splits it with any regular
expression, and gives the id of a special token to any word. Loads neither the library nor the tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tuneyard.core.wording import short_repr

_LETTERS = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_SMALL = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K_PATTERN = "|".join(
    [
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_LETTERS}]*[{_SMALL}]+{_ENDING}",
        rf"[^\r\n\p{{L}}\p{{N}}]?[{_LETTERS}]+[{_SMALL}]*{_ENDING}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
"""The pattern by which o200k splits text (openai/tiktoken, tiktoken_ext/openai_public.py)."""

SPECIAL_TOKENS = (
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|constrain|>",
    "<|return|>",
    "<|call|>",
)
"""Harmony's special tokens. Every vocabulary must have them."""


def _invert_byte_alphabet() -> dict[str, int]:
    """The byte for each character of GPT-2's byte-level alphabet (openai/gpt-2, src/encoder.py, bytes_to_unicode)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


BYTE_OF_CHARACTER = _invert_byte_alphabet()

_EMPTY_FIELDS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
"""Fields of BPE that GPT-OSS leaves empty. `dropout` gives the same text other tokens each time."""

_LOOSE_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")
"""Flags with which an added token is found in other text than its name, or takes blanks around it."""

COPY_AGAIN = "Copy tokenizer.json again from the model's source."


def tokenizer_rule_problems(tokenizer: Mapping[str, Any]) -> Iterator[str]:
    """Yields one message for each part of tokenizer.json's content that the tokenizer of a GPT-OSS cannot have."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(vocabulary, dict):
        yield f"tokenizer.json: the model is not byte-level BPE with a vocabulary. {COPY_AGAIN}"
        return
    if other := [field for field in _EMPTY_FIELDS if model.get(field)]:
        yield f"tokenizer.json: the model has {', '.join(other)}, which change the tokens of a text. {COPY_AGAIN}"
    decoder = tokenizer.get("decoder")
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        yield f"tokenizer.json: the decoder is {short_repr(decoder)}; it must be byte-level ('ByteLevel'). {COPY_AGAIN}"
    if (normalizer := tokenizer.get("normalizer")) is not None:
        yield (
            f"tokenizer.json: the normalizer is {short_repr(normalizer)}, which would replace text before it becomes "
            f"tokens; GPT-OSS has none. {COPY_AGAIN}"
        )
    if not _splits_as_known(tokenizer.get("pre_tokenizer")):
        yield (
            f"tokenizer.json: the pre_tokenizer is {short_repr(tokenizer.get('pre_tokenizer'))}, which splits text in "
            "a way of its own: a regular expression can take hours for one line of text. Known are the tokenizers of "
            f"openai/gpt-oss, GPT-2 and SmolLM2. {COPY_AGAIN}"
        )
    yield from _merge_problems(model.get("merges"), vocabulary)
    yield from _token_problems(tokenizer.get("added_tokens", []), vocabulary)


def _splits_as_known(pre_tokenizer: object) -> bool:
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return True
        case {"type": "Sequence", "pretokenizers": [*parts]}:
            return all(_is_known_part(part) for part in parts) and any(_splits_as_known(part) for part in parts[-1:])
    return False


def _is_known_part(part: object) -> bool:
    match part:
        case {"type": "ByteLevel", "add_prefix_space": False} | {"type": "Digits"}:
            return True
        case {"type": "Split", "pattern": {"Regex": pattern}}:
            return bool(pattern == O200K_PATTERN)
    return False


def _merge_problems(merges: object, vocabulary: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(merges, list):
        yield f"tokenizer.json: merges is {short_repr(merges)}, but must be an array. {COPY_AGAIN}"
        return
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(part, str) for part in pair)
            or not all(token in vocabulary for token in (*pair, "".join(pair)))
        ):
            yield f"tokenizer.json: the merge {short_repr(merge)} does not join two known tokens to one. {COPY_AGAIN}"
            return


def _token_problems(added_tokens: object, vocabulary: Mapping[str, Any]) -> Iterator[str]:
    """Problems of the ids: each is that of one text only, and special tokens are found nowhere but by their names."""
    if not isinstance(added_tokens, list) or not all(_is_added_token(token) for token in added_tokens):
        yield f"tokenizer.json: added_tokens is not an array of tokens with id, content and flags. {COPY_AGAIN}"
        return
    text_of: dict[int, str] = {}
    for text, token_id in [*vocabulary.items(), *((token["content"], token["id"]) for token in added_tokens)]:
        if type(token_id) is not int or token_id < 0:
            yield f"tokenizer.json: the id of {short_repr(text)} is {short_repr(token_id)}. {COPY_AGAIN}"
            return
        if text_of.setdefault(token_id, text) != text:
            yield (
                f"tokenizer.json: {short_repr(text)} and {short_repr(text_of[token_id])} have the same id, {token_id}: "
                f"a user who writes one would write the other. {COPY_AGAIN}"
            )
            return
    names = {token["content"] for token in added_tokens}
    if len(names) != len(added_tokens):
        yield f"tokenizer.json: added_tokens has the same token twice. {COPY_AGAIN}"
    for text in vocabulary:
        if text not in names and not BYTE_OF_CHARACTER.keys() >= set(text):
            yield f"tokenizer.json: the token {short_repr(text)} is not written in byte-level letters. {COPY_AGAIN}"
            return
    for token in added_tokens:
        if token["content"] in SPECIAL_TOKENS and (
            token.get("special") is not True or any(token.get(flag) for flag in _LOOSE_FLAGS)
        ):
            yield (
                f"tokenizer.json: {token['content']} is no special token, or takes text around it: a user who writes "
                f"it in a question would begin another message. {COPY_AGAIN}"
            )


def _is_added_token(token: object) -> bool:
    return (
        isinstance(token, dict) and isinstance(token.get("content"), str) and bool(token["content"]) and "id" in token
    )
