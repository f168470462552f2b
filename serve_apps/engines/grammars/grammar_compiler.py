"""GrammarCompiler: compiles clients' grammars within limits of time and memory, and keeps the last ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

from serve_apps.engines.grammars.grammar_proof import SCHEMA_CODE, compile_matcher, load_tokenizer, schema_error
from serve_apps.engines.grammars.token_grammar import TokenGrammar
from serve_apps.processes.worker_pool import WorkerLimitError, WorkerPool
from tuneyard.configs.grammar_limits import GrammarLimits
from tuneyard.core.errors import RequestError


class GrammarCompiler:
    """Compiles grammars for a checkpoint's tokenizer. Use it from one event loop.

    The first grammar starts the worker process, outside of the event loop. A grammar that was compiled, or refused,
    before takes no time. Call `load_tokenizer` before requests come, if `compile` is to be used.
    """

    def __init__(self, checkpoint: Path, vocabulary_size: int, limits: GrammarLimits) -> None:
        self._checkpoint = checkpoint
        self._vocabulary_size = vocabulary_size
        self._limits = limits
        self._tokenizer: Any = None
        self._workers = WorkerPool(
            "serve_apps.engines.grammars.grammar_proof:create_prover",
            (checkpoint, vocabulary_size),
            memory_bytes=limits.memory_mib * 2**20,
        )
        self._proofs: OrderedDict[str, asyncio.Task[RequestError | None]] = OrderedDict()
        """By digest; the result is why the grammar is refused."""
        self._matchers: OrderedDict[str, Any] = OrderedDict()
        """By digest: matchers at the start of an answer, which are only copied."""

    def load_tokenizer(self) -> None:
        """Loads the tokenizer for `compile`. It holds the interpreter lock: for GPT-OSS's 200,000 tokens, seconds."""
        self._tokenizer = self._tokenizer or load_tokenizer(self._checkpoint, self._vocabulary_size)

    async def compile(self, grammar: str) -> TokenGrammar:
        """The grammar, in llguidance's syntax, at the start of an answer.

        Raises RequestError if it, or a JSON schema in it, is not enforceable or exceeds a limit.
        """
        digest = _digest(grammar)
        if digest not in self._matchers:
            await self.prove(grammar)
            matcher = await asyncio.to_thread(self._compile, grammar)
            self._matchers[digest] = matcher
            _drop_oldest(self._matchers, self._limits.cache_entries)
        self._matchers.move_to_end(digest)
        return TokenGrammar(self._matchers[digest].deep_copy(), self._vocabulary_size)

    async def prove(self, grammar: str) -> None:
        """Compiles the grammar in the worker process only. Raises RequestError as `compile` does."""
        digest = _digest(grammar)
        if digest not in self._proofs:
            # A task of its own: requests with the same grammar wait for one proof, whoever of them disconnects.
            proof = self._proofs[digest] = asyncio.create_task(self._find_refusal(grammar))
            proof.add_done_callback(lambda done: self._forget_unless_known(digest, done))
            _drop_oldest(self._proofs, self._limits.cache_entries)
        proof = self._proofs[digest]
        self._proofs.move_to_end(digest)
        refusal = await asyncio.shield(proof)
        if refusal is not None:
            raise RequestError(refusal.message, refusal.param, refusal.code)

    def close(self) -> None:
        """Ends the worker process."""
        self._workers.close()

    async def _find_refusal(self, grammar: str) -> RequestError | None:
        """Why the grammar is refused; None if it is not. Raises what happened by chance, such as OverloadedError."""
        try:
            await self._workers.call(grammar, self._limits.cpu_s)
        except WorkerLimitError as e:
            field = "cpu_s" if e.limit == "time" else "memory_mib"
            most = f"{self._limits.cpu_s:g} s" if e.limit == "time" else f"{self._limits.memory_mib} MiB"
            return schema_error(
                f"compiling it takes more than {most} (engine.grammar.{field}). Simplify it: large numbers in "
                "multipleOf, maxLength or maxItems are the usual cause."
            )
        except RequestError as e:
            if e.code != SCHEMA_CODE:
                raise
            return e
        return None

    def _forget_unless_known(self, digest: str, proof: asyncio.Task[RequestError | None]) -> None:
        """A proof that failed by chance is tried again for the next request."""
        if (proof.cancelled() or proof.exception() is not None) and self._proofs.get(digest) is proof:
            del self._proofs[digest]

    def _compile(self, grammar: str) -> Any:
        self.load_tokenizer()
        return compile_matcher(grammar, self._tokenizer, self._vocabulary_size)


def _digest(grammar: str) -> str:
    return hashlib.sha256(grammar.encode()).hexdigest()


def _drop_oldest(entries: OrderedDict[str, Any], most: int) -> None:
    while len(entries) > most:
        entries.popitem(last=False)
