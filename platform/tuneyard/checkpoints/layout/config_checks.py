"""Problems in config.json and the tokenizer files that make a loader fail or silently load another model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuneyard.checkpoints.layout.gpt_oss import ARCHITECTURE
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.layout.portable import TOKENIZER_CLASS
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import short_repr

NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")

ADOPT_AGAIN = (
    "To repair a base model, delete its manifest.json and run `tuneyard models adopt FOLDER`. "
    "Export a finetuned checkpoint again."
)
"""The fix for a checkpoint whose config files must be rewritten. `adopt` refuses a folder that has a manifest."""


def config_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields one message for each problem in the content of config.json."""
    if config.get("architectures") != [ARCHITECTURE]:
        yield (
            f"config.json: architectures is {config.get('architectures')!r}, but Tuneyard supports only "
            f"[{ARCHITECTURE!r}]."
        )
    if config.get("tie_word_embeddings"):
        yield "config.json: tie_word_embeddings is true, but GPT-OSS does not share its lm_head with the embeddings."
    parameters, scaling, theta = (config.get(key) for key in ("rope_parameters", "rope_scaling", "rope_theta"))
    if not isinstance(parameters, dict) or not isinstance(scaling, dict) or theta is None:
        missing = [key for key in ("rope_parameters", "rope_scaling", "rope_theta") if not config.get(key)]
        yield (
            f"config.json lacks {' and '.join(missing)}. transformers 4.57 reads rope_theta and rope_scaling, 5.x "
            f"reads rope_parameters, and each uses its own default for a missing field. {ADOPT_AGAIN}"
        )
    elif parameters != {**scaling, "rope_theta": theta}:
        yield (
            f"config.json: rope_parameters {parameters} differs from rope_scaling {scaling} with rope_theta {theta}, "
            f"so transformers 4.57 and 5.x would load different models. Correct the wrong field. {ADOPT_AGAIN}"
        )


def tokenizer_problems(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Yields one message for each problem in tokenizer.json and tokenizer_config.json. `config` is config.json."""
    yield from _vocabulary_problems(folder, config)
    try:
        settings = read_json(folder / "tokenizer_config.json")
    except CheckpointError as e:
        yield str(e)
        return
    yield from _named_token_problems(settings)
    tokenizer_class = settings.get("tokenizer_class")
    if tokenizer_class != TOKENIZER_CLASS:
        yield (
            f"tokenizer_config.json: tokenizer_class is {tokenizer_class!r}, which only one of transformers 4.57 and "
            f"5.x loads; both load {TOKENIZER_CLASS!r}. {ADOPT_AGAIN}"
        )


def _named_token_problems(settings: Mapping[str, Any]) -> Iterator[str]:
    """Tokens in tokenizer_config.json that transformers cannot make: each is its text, or an object with the text."""
    decoder = settings.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict) or not all(
        key.isdecimal() and _is_object(token) for key, token in decoder.items()
    ):
        yield (
            "tokenizer_config.json: added_tokens_decoder must be an object of ids, each with an object that has the "
            "text of the token as `content`. Copy the file again from the model's source."
        )
    for field in NAMED_TOKENS:
        token = settings.get(field)
        if token is not None and not isinstance(token, str) and not _is_object(token):
            yield (
                f"tokenizer_config.json: {field} is {short_repr(token)}, but must be the text of a token. Copy the "
                "file again from the model's source."
            )


def _is_object(token: object) -> bool:
    return isinstance(token, dict) and isinstance(token.get("content"), str)


def _vocabulary_problems(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    # Here, because `tuneyard --help` imports this module, and the rules import openai_harmony.
    from tuneyard.harmony.tokenizer_file.tokenizer_rules import tokenizer_rule_problems

    try:
        tokenizer = read_json(folder / "tokenizer.json")
        if problems := list(tokenizer_rule_problems(tokenizer)):
            yield from problems
            return
        added = [token["id"] for token in tokenizer.get("added_tokens", [])]
        highest = max([*tokenizer["model"]["vocab"].values(), *added])
        if highest >= config.get("vocab_size", 0):
            yield (
                f"tokenizer.json: token ids go up to {highest}, but vocab_size in config.json is "
                f"{config.get('vocab_size')}. The two files belong to different models. Copy both from one model."
            )
    except CheckpointError as e:
        yield str(e)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        yield (
            f"tokenizer.json is not in the format of the tokenizers library ({e!r}). Copy it again from the model's "
            "source."
        )
