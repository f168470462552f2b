"""Answer: one request while llama.cpp answers it, in a thread of its own."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from serve_apps.engines.engine import GenerationRequest, TokenChunk, TokenLogprob
from serve_apps.engines.grammars.token_grammar import TokenGrammar
from serve_apps.engines.llama_cpp.completion_fields import (
    NO_BIASES,
    LogitBiases,
    completion_fields,
    derive_seed,
    read_token,
    scoring_fields,
)
from serve_apps.engines.llama_cpp.llama_server import LlamaServer
from serve_apps.engines.stop_tokens import ends_with_stop_token
from tuneyard.core.errors import EngineError

FORCING_BIAS = 1e9
"""A bias that makes any token the most likely one."""


class Answer:
    """Generates the answer to one request in one slot, by one request to llama.cpp or by several that continue it.

    An answer is continued by another request when its logit biases change, and after a token that the grammar does not
    allow: that one is dropped, and the token in its place is chosen among the allowed ones. `token_ids` is the answer
    so far. The last chunk is not passed on but kept in `last_chunk`: whoever gets it may count on a free slot.
    """

    def __init__(
        self, request: GenerationRequest, grammar: TokenGrammar | None, on_chunk: Callable[[TokenChunk], None]
    ) -> None:
        self.request = request
        self.token_ids: list[int] = []
        self.last_chunk: TokenChunk | None = None
        self._grammar = grammar
        self._on_chunk = on_chunk
        self._biases = LogitBiases(request.sampling)
        self._seed = request.sampling.seed if request.sampling.seed is not None else secrets.randbits(63)
        self._continuations = 0
        self._cancelled = threading.Event()
        self._cached_tokens: int | None = None
        self._reason: Literal["stop", "length"] | None = None

    def cancel(self) -> None:
        """Ends the answer after the token, or the batch of the prompt, that is being computed."""
        self._cancelled.set()

    def generate(self, server: LlamaServer, slot_id: int) -> None:
        """Passes on the chunks of the answer before the last one, or until it is cancelled. Blocks.

        Raises EngineError if llama.cpp fails, or if the grammar cannot be enforced to the end of the answer.
        """
        if self.request.prompt_logprobs is not None:
            self._score_prompt(server, slot_id, self.request.prompt_logprobs)
        while self._reason is None and not self._cancelled.is_set():
            length = len(self.token_ids)
            is_allowed = self._stream(server, slot_id)
            if not is_allowed:
                self._choose_allowed(server, slot_id)
            if len(self.token_ids) == length and not self._cancelled.is_set():
                raise EngineError("llama.cpp ended the answer without a token.")

    def _score_prompt(self, server: LlamaServer, slot_id: int, top: int) -> None:
        """Passes on the log-probabilities of the prompt's tokens: each is forced in turn after those before it."""
        prompt = self.request.prompt_token_ids
        scores: list[TokenLogprob] = []

        def read(chunk: dict[str, Any]) -> bool:
            token = read_token(chunk, top)
            if token is not None and token[1] is not None:
                scores.append(token[1])
            return self._cancelled.is_set()

        for position in range(1, len(prompt)):
            if self._cancelled.is_set():
                return
            bias = f"[[{prompt[position]}, {FORCING_BIAS}]]"
            server.complete(scoring_fields(prompt[:position], top, slot_id), read, logit_bias=bias)
            if len(scores) != position and not self._cancelled.is_set():
                raise EngineError(f"llama.cpp gave no log-probability of the prompt's token {position}.")
        # What the answer will find in the cache is this work of its own.
        self._cached_tokens = 0
        if not self._cancelled.is_set():
            self._on_chunk(TokenChunk((), prompt_logprobs=tuple(scores)))

    def _stream(self, server: LlamaServer, slot_id: int) -> bool:
        """Generates until the answer ends, its biases change, or a token is not allowed: then it returns False."""
        is_allowed = True

        def read(chunk: dict[str, Any]) -> bool:
            nonlocal is_allowed
            if self._cached_tokens is None and "prompt_progress" in chunk:
                self._cached_tokens = int(chunk["prompt_progress"]["cache"])
            token = read_token(chunk, self.request.logprobs)
            if token is None or self._cancelled.is_set():
                return self._cancelled.is_set()
            if self._grammar is not None and not self._grammar.try_accept(token[0]):
                is_allowed = False
                return True
            return self._add(*token)

        remaining = self.request.sampling.max_tokens - len(self.token_ids)
        self._complete(server, slot_id, 1 if self._biases.change_always else remaining, read)
        return is_allowed

    def _choose_allowed(self, server: LlamaServer, slot_id: int) -> None:
        """Adds one token that the grammar allows."""
        assert self._grammar is not None
        allowed = self._grammar.allowed_tokens()
        count = 0 if allowed is None else int(allowed.sum())
        if allowed is None or count == 0:
            reason = self._grammar.error or "it allows no token here"
            raise EngineError(f"The schema could not be enforced to the end of the answer: {reason}")
        if count == 1 and self.request.logprobs is None:
            self._accept(int(allowed.argmax()), None)
            return

        def read(chunk: dict[str, Any]) -> bool:
            token = read_token(chunk, self.request.logprobs)
            if token is not None and not self._cancelled.is_set():
                self._accept(*token)
            return True if token is not None else self._cancelled.is_set()

        self._complete(server, slot_id, 1, read, allowed)

    def _complete(
        self,
        server: LlamaServer,
        slot_id: int,
        count: int,
        read: Callable[[dict[str, Any]], bool],
        allowed: np.ndarray | None = None,
    ) -> None:
        biases = self._biases.as_json(allowed)
        has_bias = biases != NO_BIASES
        seed = derive_seed(self._seed, self._continuations)
        self._continuations += 1
        fields = completion_fields(self.request, self.token_ids, count, slot_id, seed, has_bias=has_bias)
        server.complete(fields, read, logit_bias=biases)

    def _accept(self, token: int, logprob: TokenLogprob | None) -> None:
        assert self._grammar is not None
        self._grammar.accept(token)
        self._add(token, logprob)

    def _add(self, token: int, logprob: TokenLogprob | None) -> bool:
        """Adds a token, and returns whether the running request to llama.cpp must end."""
        self.token_ids.append(token)
        if ends_with_stop_token(self.request, (token,)):
            self._reason = "stop"
        elif len(self.token_ids) == self.request.sampling.max_tokens:
            self._reason = "length"
        logprobs = (logprob,) if logprob is not None else ()
        chunk = TokenChunk((token,), self._reason, logprobs, cached_prompt_tokens=self._cached_tokens or 0)
        if self._reason is None:
            self._on_chunk(chunk)
        else:
            self.last_chunk = chunk
        return self._biases.add(token) or self._reason is not None
