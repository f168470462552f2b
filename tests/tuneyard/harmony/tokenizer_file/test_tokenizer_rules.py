"""A tokenizer.json that is not that of a GPT-OSS is refused by every command, and before the library loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from serve_apps.deployment.checked_model import check_model
from tuneyard.checkpoints.adoption import adopt_checkpoint
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.core.errors import CheckpointError
from tuneyard.harmony.tokenizer_file.tokenizer_rules import SPECIAL_TOKENS, tokenizer_rule_problems
from tuneyard.harmony.vocabulary import ModelVocabulary

Edit = Callable[[dict[str, Any]], object]


def start(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """The added token <|start|>."""
    token: dict[str, Any] = next(token for token in tokenizer["added_tokens"] if token["content"] == "<|start|>")
    return token


def word(tokenizer: dict[str, Any]) -> str:
    """A word of the vocabulary that is no special token."""
    return next(text for text in tokenizer["model"]["vocab"] if len(text) > 4 and "|" not in text)


def edit_added(**fields: Any) -> Edit:
    return lambda tokenizer: start(tokenizer).update(fields)


def another_token(**fields: Any) -> Edit:
    return lambda tokenizer: tokenizer["added_tokens"].append(start(tokenizer) | fields)


def edit_model(**fields: Any) -> Edit:
    return lambda tokenizer: tokenizer["model"].update(fields)


def edit_vocabulary(ids: Callable[[dict[str, Any]], dict[str, Any]]) -> Edit:
    return lambda tokenizer: tokenizer["model"]["vocab"].update(ids(tokenizer))


def split_by(pattern: str) -> Edit:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return lambda tokenizer: tokenizer.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [split, bytes_]})


def nested_normalizer(tokenizer: dict[str, Any]) -> None:
    normalizer: dict[str, Any] = {"type": "NFC"}
    for _ in range(300):
        normalizer = {"type": "Sequence", "normalizers": [normalizer]}
    tokenizer["normalizer"] = normalizer


ATTACKS: dict[str, tuple[Edit, str]] = {
    "special token as text": (edit_added(special=False), "<|start|> is no special token"),
    "special token with blanks": (edit_added(lstrip=True), "<|start|> is no special token, or takes text around it"),
    "special token in normalised text": (edit_added(normalized=True), "<|start|> is no special token"),
    "a word as another name": (another_token(content="please", special=False), "have the same id"),
    "a word of the vocabulary": (edit_vocabulary(lambda t: {word(t): start(t)["id"]}), "have the same id"),
    "two names": (edit_added(id=6), "have the same id, 6"),
    "twice": (another_token(), "has the same token twice"),
    "negative id": (edit_added(id=-1), "the id of '<|start|>' is -1"),
    "id that is no integer": (edit_vocabulary(lambda _: {"a": 1.5}), "the id of 'a' is 1.5"),
    "no text": (another_token(content="", id=1000), "added_tokens is not an array of tokens"),
    "added tokens as an object": (lambda t: t.update(added_tokens={"a": 1}), "added_tokens is not an array"),
    "unknown merge": (lambda t: t["model"]["merges"].append(["zzzz", "yyyy"]), "the merge ['zzzz', 'yyyy'] does not"),
    "merge of numbers": (edit_model(merges=[[1, 2]]), "the merge [1, 2] does not join"),
    "merges as text": (edit_model(merges="a b"), "merges is 'a b', but must be an array"),
    "letters that are no bytes": (edit_vocabulary(lambda _: {"日本": 1023}), "have the same id"),
    "other model": (edit_model(type="WordPiece"), "the model is not byte-level BPE"),
    "no model": (lambda t: t.update(model=[1]), "the model is not byte-level BPE"),
    "chance": (edit_model(dropout=0.5), "the model has dropout, which change"),
    "endless regular expression": (split_by("(a+)+$"), "a regular expression can take hours"),
    "broken regular expression": (split_by("((("), "a regular expression can take hours"),
    "other splits": (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "the pre_tokenizer is"),
    "replaced text": (
        lambda t: t.update(normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 10**6}),
        "would replace text",
    ),
    "normalizers without end": (nested_normalizer, "would replace text"),
    "other decoder": (lambda t: t.update(decoder={"type": "Metaspace"}), "the decoder is {'type': 'Metaspace'}"),
}


@pytest.mark.parametrize("kind", list(ATTACKS))
def test_every_command_refuses_it(kind: str, tiny_oss_copy: Path) -> None:
    edit, refusal = ATTACKS[kind]
    path = tiny_oss_copy / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    edit(tokenizer)
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    (tiny_oss_copy / "manifest.json").unlink()
    refuses(lambda: adopt_checkpoint(tiny_oss_copy, "m"), refusal)
    write_manifest(tiny_oss_copy, kind="base", name="m", version="1")
    refuses(lambda: validate_hf_checkpoint(tiny_oss_copy), refusal)
    refuses(lambda: check_model(ModelAppConfig(model_id="m", checkpoint=str(tiny_oss_copy))), refusal)
    # The codec of training, evaluation and serving.
    refuses(lambda: ModelVocabulary(tiny_oss_copy), refusal)


def refuses(action: Callable[[], object], words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        action()
    assert words in str(caught.value)


def test_a_letter_that_is_no_byte_is_refused(tiny_oss: Path) -> None:
    """token_bytes would fail in an answer that holds the token."""
    tokenizer = json.loads((tiny_oss / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["日本"] = max(vocabulary.values()) + 1
    assert any("not written in byte-level letters" in problem for problem in tokenizer_rule_problems(tokenizer))


def test_what_the_library_cannot_load_is_refused_with_its_reason(tiny_oss_copy: Path) -> None:
    path = tiny_oss_copy / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(tokenizer | {"post_processor": {"type": "Evil"}}), encoding="utf-8")
    refuses(lambda: ModelVocabulary(tiny_oss_copy), "the tokenizers library cannot load the file")


@pytest.mark.parametrize("kind", ["special token as text", "a word of the vocabulary"])
def test_the_attack_is_real(kind: str, tiny_oss: Path) -> None:
    """Without the rules, text of a user's question is the token that begins a message."""
    tokenizer = json.loads((tiny_oss / "tokenizer.json").read_text(encoding="utf-8"))
    texts = "<|start|>", word(tokenizer).replace("Ġ", " ")
    before = ids_of(texts, tokenizer)
    ATTACKS[kind][0](tokenizer)
    after = ids_of(texts, tokenizer)
    assert start(tokenizer)["id"] not in before
    assert start(tokenizer)["id"] in after


def ids_of(texts: tuple[str, ...], tokenizer: dict[str, Any]) -> list[int]:
    """The ids of the texts, as ModelVocabulary.encode_text has them."""
    loaded = Tokenizer.from_str(json.dumps(tokenizer))
    loaded.encode_special_tokens = True
    return [token for text in texts for token in loaded.encode(text, add_special_tokens=False).ids]


def test_the_published_tokenizer_passes() -> None:
    from jobs.bases.o200k_tokenizer import build_o200k_tokenizer

    tokenizer = json.loads(build_o200k_tokenizer().to_str())
    assert list(tokenizer_rule_problems(tokenizer)) == []
    names = {token["content"] for token in tokenizer["added_tokens"]}
    assert names >= set(SPECIAL_TOKENS)
