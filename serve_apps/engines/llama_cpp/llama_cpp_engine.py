"""The llama.cpp engine: continuous batching and a KV cache per slot, on CPUs or GPUs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serve_apps.engines.engine import OPTIONS, EngineStats, GenerationRequest, SamplingParams, TokenChunk
from serve_apps.engines.grammars.grammar_compiler import GrammarCompiler
from serve_apps.engines.llama_cpp.answer import Answer
from serve_apps.engines.llama_cpp.cpu_features import read_cpuinfo, unused_features
from serve_apps.engines.llama_cpp.llama_server import LlamaServer, describe_build
from serve_apps.engines.llama_cpp.slots import Slot, SlotPool
from serve_apps.engines.request_checks import check_request, check_token_ids
from serve_apps.engines.running_requests import ChunkCallback, RunningRequests
from tuneyard.checkpoints.gguf.node_gguf import local_gguf
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.node_cache import release
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.llama_cpp import LlamaCppConfig
from tuneyard.core.errors import EngineError

MIB = 2**20

WATCH_INTERVAL_S = 1.0

CHECKED_TOKENS = 16
"""Length of the prompt that is scored at the start: several, because each token uses other experts."""

SHUTDOWN_TIMEOUT_S = 10.0
"""Seconds that running requests get to end. If llama.cpp hangs, it is left to the end of the process."""

logger = logging.getLogger("ray.serve")
"""Ray Serve writes what this logger gets to the replica's log, and drops what others get below warnings."""


class LlamaCppEngine:
    """See InferenceEngine. Each running request has a slot of llama.cpp, and a thread that reads its tokens."""

    def __init__(self, config: EngineConfig, checkpoint: Path) -> None:
        assert config.llama_cpp is not None
        self._config: LlamaCppConfig = config.llama_cpp
        self._checkpoint = checkpoint
        model = read_json(checkpoint / "config.json")
        self._vocabulary_size = int(model["vocab_size"])
        rope = model.get("rope_parameters") or {}
        self._rounds_yarn = rope.get("factor", 1.0) != 1 and not rope.get("truncate", True)
        self._max_model_len = min(int(model["max_position_embeddings"]), self._config.max_model_len)
        self._grammars = GrammarCompiler(checkpoint, self._vocabulary_size, config.grammar)
        self._requests = RunningRequests()
        self._slots = SlotPool(self._config.n_parallel)
        self._waiting: deque[tuple[Answer, ChunkCallback]] = deque()
        self._running: dict[Answer, asyncio.Future[None]] = {}
        self._threads = ThreadPoolExecutor(self._config.n_parallel, thread_name_prefix="llama-answer")
        self._server: LlamaServer | None = None
        self._gguf: Path | None = None
        self._watch_task: asyncio.Task[None] | None = None

    @property
    def max_model_len(self) -> int:
        return self._max_model_len

    async def start(self) -> None:
        """Makes the GGUF file if this node does not have it, loads it, and scores a token with it.

        Raises what local_gguf and LlamaServer raise, and EngineError if the model's logits are NaN.
        """
        self._grammars.load_tokenizer()
        self._gguf = await asyncio.to_thread(self._make_gguf)
        build = describe_build()
        logger.info("loading %s; llama.cpp uses %s", self._gguf, build)
        if unused := unused_features(build, await asyncio.to_thread(read_cpuinfo)):
            logger.info(
                "this CPU also has %s, which an xllamacpp that is built on this node uses: see docs/serving.md",
                ", ".join(unused),
            )
        if self._rounds_yarn:
            logger.info("llama.cpp rounds the bounds of YaRN, config.json does not: answers differ slightly")
        self._server = await asyncio.to_thread(LlamaServer, self._config, self._gguf)
        await asyncio.to_thread(self._check_logits, self._server)
        self._watch_task = asyncio.create_task(self._watch())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        check_request(request, self._max_model_len, options=OPTIONS)
        check_token_ids(request, self._vocabulary_size)
        grammar = await self._grammars.compile(request.grammar) if request.grammar is not None else None
        loop = asyncio.get_running_loop()
        answer: Answer | None = None

        def submit(on_chunk: ChunkCallback) -> None:
            nonlocal answer
            answer = Answer(request, grammar, lambda chunk: _call_in(loop, on_chunk, chunk))
            self._submit(answer, on_chunk)

        chunks = self._requests.run(request, submit, lambda: self._cancel(answer))
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def abort(self, request_id: str) -> None:
        self._requests.abort(request_id)

    def stats(self) -> EngineStats:
        used = sum(len(answer.request.prompt_token_ids) + len(answer.token_ids) for answer in self._running)
        capacity = self._config.n_parallel * self._max_model_len
        return EngineStats(requests=len(self._requests), kv_cache_usage=min(1.0, used / capacity))

    async def check_health(self) -> None:
        self._requests.check_alive()
        if self._server is None:
            raise EngineError("The engine was never started.")

    async def shutdown(self) -> None:
        self._fail("The engine was shut down.")
        self._grammars.close()
        if self._watch_task is not None:
            self._watch_task.cancel()
        self._threads.shutdown(wait=False)
        if self._running:
            await asyncio.wait(self._running.values(), timeout=SHUTDOWN_TIMEOUT_S)
        server, self._server = self._server, None
        if server is not None and not self._running:
            await asyncio.to_thread(server.close)
        if self._gguf is not None:
            release(self._gguf.parent)

    def _make_gguf(self) -> Path:
        reported = 0

        def report(written: int, total: int) -> None:
            nonlocal reported
            tenth = written * 10 // total
            if tenth > reported:
                reported = tenth
                name = self._checkpoint.name
                logger.info("%s as GGUF %s: %d of %d MiB", name, self._config.weights, written // MIB, total // MIB)

        return local_gguf(self._checkpoint, self._config.weights, on_progress=report)

    def _check_logits(self, server: LlamaServer) -> None:
        """Scores one token. An answer without log-probabilities does not show that its logits are NaN."""
        prompt = tuple(range(min(CHECKED_TOKENS, self._max_model_len - 1)))
        request = GenerationRequest("start", prompt, SamplingParams(1, temperature=0.0), (), logprobs=0)
        Answer(request, None, lambda _: None).generate(server, 0)

    def _submit(self, answer: Answer, on_chunk: ChunkCallback) -> None:
        if self._server is None:
            on_chunk(EngineError("The engine was never started."))
            return
        self._waiting.append((answer, on_chunk))
        self._start_waiting()

    def _start_waiting(self) -> None:
        """Starts the requests that wait, in order, as long as slots are free."""
        loop = asyncio.get_running_loop()
        while self._waiting and self._server is not None:
            slot = self._slots.take(self._waiting[0][0].request.prompt_token_ids)
            if slot is None:
                return
            answer, on_chunk = self._waiting.popleft()
            # _watch may look before the request's thread begins; while the engine was idle, nothing was reported.
            self._server.last_progress = time.monotonic()
            future = loop.run_in_executor(self._threads, answer.generate, self._server, slot.slot_id)
            self._running[answer] = future
            future.add_done_callback(functools.partial(self._end, answer, slot, on_chunk))

    def _end(self, answer: Answer, slot: Slot, on_chunk: ChunkCallback, future: asyncio.Future[None]) -> None:
        """Frees the slot of a request whose thread has ended, and passes on its last chunk or its error.

        In this order: the chat's next turn may come at once, and finds its beginning in this slot.
        """
        del self._running[answer]
        self._slots.give_back(slot, (*answer.request.prompt_token_ids, *answer.token_ids))
        error = future.exception()
        if answer.last_chunk is not None:
            on_chunk(answer.last_chunk)
        elif isinstance(error, EngineError):
            on_chunk(error)
        elif error is not None:
            logger.error("llama.cpp failed in request %s", answer.request.request_id, exc_info=error)
            self._fail(f"The engine failed: {type(error).__name__}: {error}")
        self._start_waiting()

    def _fail(self, message: str) -> None:
        """Ends all requests with an error, and refuses later ones."""
        self._requests.fail_all(message)
        self._waiting.clear()
        for answer in self._running:
            answer.cancel()

    def _cancel(self, answer: Answer | None) -> None:
        if answer is not None:
            answer.cancel()
            self._waiting = deque(entry for entry in self._waiting if entry[0] is not answer)

    async def _watch(self) -> None:
        """Fails the engine if requests are running, and llama.cpp reports nothing for stall_timeout_s."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            timeout_s = self._config.stall_timeout_s
            if self._running and self._server and time.monotonic() - self._server.last_progress > timeout_s:
                self._fail(
                    f"The engine failed: llama.cpp generated no token and prefilled no batch for {timeout_s:g} s "
                    "(engine.llama_cpp.stall_timeout_s)."
                )


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[TokenChunk], None], chunk: TokenChunk) -> None:
    # If the loop is closed, no reader is left.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, chunk)
