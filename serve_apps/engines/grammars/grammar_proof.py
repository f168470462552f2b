"""Compiles a grammar with llguidance, here or in a worker process. Imports neither torch nor an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import llguidance
import llguidance.numpy

from tuneyard.core.errors import RequestError

SCHEMA_CODE = "invalid_schema"
"""The `code` of errors about a schema."""


def create_prover(checkpoint: Path, vocabulary_size: int) -> Callable[[str], None]:
    """For a worker process: a function that compiles a grammar, and raises RequestError if it is not enforceable."""
    tokenizer = load_tokenizer(checkpoint, vocabulary_size)

    def prove(grammar: str) -> None:
        compile_matcher(grammar, tokenizer, vocabulary_size)

    return prove


def load_tokenizer(checkpoint: Path, vocabulary_size: int) -> Any:
    """llguidance's tokenizer for a checkpoint folder.

    `vocabulary_size` is that of the logits: a model's vocabulary may be larger than its tokenizer's.
    """
    text = (checkpoint / "tokenizer.json").read_text(encoding="utf-8")
    return llguidance.LLTokenizer(text, n_vocab=vocabulary_size)


def compile_matcher(grammar: str, tokenizer: Any, vocabulary_size: int) -> Any:
    """The LLMatcher at the start of an answer. Raises RequestError if the grammar, or a schema in it, is not
    enforceable. It does not hold the interpreter lock while it compiles.
    """
    error = llguidance.LLMatcher.validate_grammar(grammar, tokenizer)
    if error:
        raise schema_error(first_line(error))
    matcher = llguidance.LLMatcher(tokenizer, grammar)
    # The first mask finds what only shows in use.
    bitmask = llguidance.numpy.allocate_token_bitmask(1, vocabulary_size)
    llguidance.numpy.fill_next_token_bitmask(matcher, bitmask, 0)
    if matcher.is_error():
        raise schema_error(first_line(matcher.get_error()))
    return matcher


def schema_error(reason: str) -> RequestError:
    """The error of a schema that is not enforced; engines know every grammar by the name `response_format`."""
    return RequestError(f"The schema cannot be enforced: {reason}", param="response_format", code=SCHEMA_CODE)


_OVERLAPPING_ONE_OF = "oneOf constraints are not supported"
"""llguidance's words for a `oneOf` with branches that it does not see to exclude each other."""


def first_line(text: str) -> str:
    """llguidance's message without its details."""
    line = text.strip().splitlines()[0]
    place, found, _ = line.partition(_OVERLAPPING_ONE_OF)
    return (
        f"{place}a 'oneOf' whose branches may match at the same time is not supported. Use 'anyOf'." if found else line
    )
