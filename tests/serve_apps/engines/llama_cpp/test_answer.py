"""An answer that several requests to llama.cpp continue is the one that choosing token by token gives."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.engines.engine import GenerationRequest, SamplingParams, TokenChunk
from serve_apps.engines.llama_cpp.answer import Answer
from tuneyard.core.errors import EngineError

VOCABULARY = 12
PROMPT = (1, 2, 3)


def logits_after(tokens: list[int]) -> list[float]:
    """Logits of a model that any difference in its input changes; with few values, so that penalties matter."""
    digest = hashlib.blake2b(bytes(tokens), digest_size=VOCABULARY).digest()
    return [byte % 16 / 4 for byte in digest]


class GreedyLlama:
    """Answers as llama.cpp's server: a chunk for the prompt, one per token, and a last one. It may end an answer early,
    as where a slot is full."""

    def __init__(self, longest: int = 10**6) -> None:
        self.calls = 0
        self._longest = longest

    def complete(self, fields: dict[str, Any], on_chunk: Any, *, logit_bias: str) -> None:
        self.calls += 1
        tokens = list(fields["prompt"])
        if on_chunk(self._chunk([0]) | {"prompt_progress": {"cache": 2}}):
            return
        for _ in range(min(fields["n_predict"], self._longest)):
            logits = logits_after(tokens)
            for token, bias in json.loads(logit_bias):
                logits[token] = -float("inf") if bias is False else logits[token] + bias
            tokens.append(logits.index(max(logits)))
            if on_chunk(self._chunk(tokens[-1:])):
                return
        on_chunk(self._chunk([], "length"))

    @staticmethod
    def _chunk(tokens: list[int], finish_reason: str | None = None) -> dict[str, Any]:
        choice: dict[str, Any] = {"finish_reason": finish_reason}
        if tokens:
            choice["logprobs"] = {"content": [{"id": tokens[0], "logprob": -1.0, "top_logprobs": []}]}
        return {"choices": [choice]}


class CountdownGrammar:
    """Allows, at each position, the tokens of a set; None ends it with an error."""

    def __init__(self, allowed: list[frozenset[int] | None]) -> None:
        self._allowed = allowed
        self._position = 0
        self.error: str | None = None

    def allowed_tokens(self) -> np.ndarray | None:
        allowed = self._allowed[self._position % len(self._allowed)]
        if allowed is None:
            self.error = "the set is None"
            return None
        return np.array([token in allowed for token in range(VOCABULARY)])

    def accept(self, token: int) -> None:
        assert token in (self._allowed[self._position % len(self._allowed)] or ())
        self._position += 1

    def try_accept(self, token: int) -> bool:
        allowed = self.allowed_tokens()
        if allowed is None or not allowed[token]:
            return False
        self.accept(token)
        return True


def expected_answer(
    params: SamplingParams, stops: tuple[int, ...], allowed: list[frozenset[int]] | None
) -> tuple[list[int], str]:
    answer: list[int] = []
    while len(answer) < params.max_tokens:
        logits = logits_after([*PROMPT, *answer])
        counts = Counter(answer)
        for token, bias in params.logit_bias:
            logits[token] += bias
        for token, count in counts.items():
            logits[token] -= params.presence_penalty + params.frequency_penalty * count
        if allowed is not None:
            here = allowed[len(answer) % len(allowed)]
            logits = [value if token in here else -float("inf") for token, value in enumerate(logits)]
        answer.append(logits.index(max(logits)))
        if answer[-1] in stops:
            return answer, "stop"
    return answer, "length"


def generate(
    params: SamplingParams, stops: tuple[int, ...], grammar: Any, llama: GreedyLlama, cancel_after: int | None = None
) -> list[TokenChunk]:
    chunks: list[TokenChunk] = []

    def on_chunk(chunk: TokenChunk) -> None:
        chunks.append(chunk)
        if len(chunks) == cancel_after:
            answer.cancel()

    request = GenerationRequest("r", PROMPT, params, stops)
    answer = Answer(request, grammar, on_chunk)
    answer.generate(llama, 0)  # type: ignore[arg-type]
    if answer.last_chunk is not None:
        chunks.append(answer.last_chunk)
    assert [chunk.token_ids[0] for chunk in chunks] == answer.token_ids
    return chunks


sets = st.lists(st.frozensets(st.integers(0, VOCABULARY - 1), min_size=1), min_size=1, max_size=4)
penalties = st.sampled_from([0.0, 0.25, 1.0, -0.5])


@given(
    st.integers(1, 30),
    penalties,
    penalties,
    st.dictionaries(st.integers(0, VOCABULARY - 1), st.sampled_from([-3.0, 0.5, 2.0]), max_size=3),
    st.lists(st.integers(0, VOCABULARY - 1), max_size=2),
    st.none() | sets,
    st.integers(1, 40),
)
def test_penalties_grammars_stops_and_lengths_are_exact(
    max_tokens: int,
    presence: float,
    frequency: float,
    biases: dict[int, float],
    stops: list[int],
    allowed: list[frozenset[int]] | None,
    longest: int,
) -> None:
    params = SamplingParams(
        max_tokens, 0.0, presence_penalty=presence, frequency_penalty=frequency, logit_bias=tuple(biases.items())
    )
    grammar = CountdownGrammar(list(allowed)) if allowed is not None else None
    chunks = generate(params, tuple(stops), grammar, GreedyLlama(longest))
    answer, reason = expected_answer(params, tuple(stops), allowed)
    assert [chunk.token_ids[0] for chunk in chunks] == answer
    assert [chunk.finish_reason for chunk in chunks] == [None] * (len(answer) - 1) + [reason]
    assert {chunk.cached_prompt_tokens for chunk in chunks} <= {0, 2}


@given(st.integers(1, 19), st.none() | sets)
def test_a_cancelled_answer_ends_at_once_and_has_no_finish_reason(
    cancel_after: int, allowed: list[frozenset[int]] | None
) -> None:
    grammar = CountdownGrammar(list(allowed)) if allowed is not None else None
    chunks = generate(SamplingParams(20, 0.0), (), grammar, GreedyLlama(), cancel_after)
    assert len(chunks) == cancel_after
    assert {chunk.finish_reason for chunk in chunks} == {None}


def test_a_plain_answer_is_one_request_to_llama_cpp() -> None:
    llama = GreedyLlama()
    generate(SamplingParams(30, 0.0), (), None, llama)
    assert llama.calls == 1


@pytest.mark.parametrize("allowed", [[frozenset({1}), None], [frozenset({1}), frozenset()]])
def test_a_grammar_that_cannot_go_on_ends_the_answer_with_an_error(allowed: list[frozenset[int] | None]) -> None:
    with pytest.raises(EngineError, match="could not be enforced to the end of the answer"):
        generate(SamplingParams(20, 0.0), (), CountdownGrammar(allowed), GreedyLlama())


def test_an_answer_without_tokens_is_an_error() -> None:
    with pytest.raises(EngineError, match="without a token"):
        generate(SamplingParams(20, 0.0), (), None, GreedyLlama(longest=0))


def test_a_token_of_the_prompt_without_a_score_is_an_error() -> None:
    """Otherwise each score after it would be taken for that of the token before."""
    request = GenerationRequest("r", PROMPT, SamplingParams(4, 0.0), (), prompt_logprobs=0)
    answer = Answer(request, None, lambda _: None)
    with pytest.raises(EngineError, match="no log-probability of the prompt's token 1"):
        answer.generate(GreedyLlama(longest=0), 0)  # type: ignore[arg-type]
