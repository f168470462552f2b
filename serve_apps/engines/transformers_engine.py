"""The transformers engine: continuous batching over a paged KV cache, on a CPU or a GPU."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers.generation.continuous_batching import RequestStatus
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.utils import drain_queue
from transformers.generation.logits_process import LogitsProcessorList

from serve_apps.engines.engine import OPTIONS, EngineStats, GenerationRequest, TokenChunk
from serve_apps.engines.grammars.grammar_compiler import GrammarCompiler
from serve_apps.engines.prompt_scorer import PromptScorer
from serve_apps.engines.request_checks import check_request, check_token_ids
from serve_apps.engines.request_sampler import GREEDY_ID, RequestSampler
from serve_apps.engines.running_requests import ChunkCallback, RunningRequests
from serve_apps.engines.stop_tokens import ends_with_stop_token
from serve_apps.engines.token_sampling import TokenChooser
from tuneyard.configs.engine import EngineConfig
from tuneyard.core.errors import EngineError

PAGE_SIZE = 32
"""Tokens per page of the KV cache. A small value, because each request wastes half a page on average."""

PAGED_ATTENTION = "paged|eager"
"""transformers' attn_implementation: the only paged one with attention sinks that needs no kernel from the Hub."""

SWITCH_INTERVAL_S = 0.0005
"""Time after which the event loop's thread makes the generation thread release the interpreter lock.

The generation thread releases the lock only briefly by itself, so with Python's default of 5 ms each token could wait
that long before it is sent.
"""


class TransformersEngine:
    """See InferenceEngine. `load_model` returns the model to serve; tests give one whose weights no folder holds."""

    def __init__(
        self, config: EngineConfig, checkpoint: Path, load_model: Callable[[EngineConfig, Path], Any] | None = None
    ) -> None:
        self._config = config
        self._checkpoint = checkpoint
        self._load_model = load_model or load_paged_model
        self._requests = RunningRequests()
        self._sampler = RequestSampler()
        self._manager: Any = None
        self._scorer: PromptScorer | None = None
        self._serial = itertools.count()
        model_config = transformers.AutoConfig.from_pretrained(checkpoint)
        self._vocabulary_size = int(model_config.vocab_size)
        self._grammars = GrammarCompiler(checkpoint, self._vocabulary_size, config.grammar)
        # A single request must fit into the cache, or transformers' loop ends with "No requests can be scheduled".
        self._max_model_len = min(int(model_config.max_position_embeddings), config.kv_cache_tokens)

    @property
    def max_model_len(self) -> int:
        return self._max_model_len

    async def start(self) -> None:
        """Loads the model and starts the generation thread. Errors of transformers and torch are raised unchanged."""
        loop = asyncio.get_running_loop()
        self._grammars.load_tokenizer()
        self._manager = await asyncio.to_thread(self._load_manager)
        threading.Thread(
            target=self._wait_for_end, args=(self._manager, loop), name="engine-watch", daemon=True
        ).start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        options = OPTIONS if self._scorer is not None else OPTIONS - {"prompt_logprobs"}
        check_request(request, self._max_model_len, options=options)
        check_token_ids(request, self._vocabulary_size)
        # transformers gets an id that is never used again: it applies cancellations after additions, so a cancellation
        # that is still queued would silently cancel a new request with the same id.
        key = f"{request.request_id}#{next(self._serial)}"
        chooser = await self._create_chooser(request)
        chooser_id = self._sampler.add(chooser) if chooser is not None else GREEDY_ID
        chunks = self._requests.run(
            request,
            lambda on_chunk: self._submit(request, key, chooser, chooser_id, on_chunk),
            lambda: self._cancel(key),
        )
        try:
            if request.prompt_logprobs is not None and self._scorer is not None:
                yield TokenChunk(())
                scores = await self._scorer.score(request.prompt_token_ids, request.prompt_logprobs)
                yield TokenChunk((), prompt_logprobs=scores)
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
        finally:
            self._sampler.remove(chooser_id)
            self._forget(key)

    async def abort(self, request_id: str) -> None:
        self._requests.abort(request_id)

    def stats(self) -> EngineStats:
        processor = self._manager.batch_processor if self._manager is not None else None
        # list() copies a dict's values without releasing the interpreter lock, so the generation thread cannot change
        # the dict meanwhile.
        active = list(processor.scheduler.active_requests.values()) if processor is not None else []
        used = sum(state.current_len() for state in active)
        return EngineStats(requests=len(self._requests), kv_cache_usage=min(1.0, used / self._config.kv_cache_tokens))

    async def check_health(self) -> None:
        self._requests.check_alive()
        if self._manager is None or not self._manager.is_running():
            raise EngineError(f"The engine is not running: {_failure_cause(self._manager)}")

    async def shutdown(self) -> None:
        self._requests.fail_all("The engine was shut down.")
        self._grammars.close()
        if self._scorer is not None:
            self._scorer.close()
        manager, self._manager = self._manager, None
        if manager is not None:
            await asyncio.to_thread(manager.stop, block=True, hard_stop=True)

    def _load_manager(self) -> Any:
        """Loads the model and returns transformers' running continuous batching manager."""
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        has_gpu = torch.cuda.is_available()
        if not has_gpu and self._config.threads is not None:
            torch.set_num_threads(self._config.threads)
        model = self._load_model(self._config, self._checkpoint)
        # The weights of a quantised model are not all parameters, so they would be copied.
        self._scorer = None if getattr(model, "hf_quantizer", None) is not None else PromptScorer(model)
        manager = model.init_continuous_batching(
            generation_config=transformers.GenerationConfig(do_sample=False, eos_token_id=-1),
            continuous_batching_config=transformers.ContinuousBatchingConfig(
                page_size=PAGE_SIZE,
                num_blocks=-(-self._config.kv_cache_tokens // PAGE_SIZE),
                max_batch_tokens=self._config.max_batch_tokens,
                max_requests_per_batch=self._config.max_concurrent_requests,
                per_request_processors=True,
                use_cuda_graph=False,
                auto_switch_to_flash=False,
            ),
        )
        processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([self._sampler]))
        processors.tensors_required = 1
        manager.logit_processor = processors
        with torch.inference_mode():
            # warmup allocates the KV cache: here an error stops the start, in the generation thread it would not.
            manager.warmup()
            manager.start()
        return manager

    def _wait_for_end(self, manager: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Waits in a thread for the end of the generation thread, then ends all running requests."""
        manager._generation_thread.join()
        # If the loop is closed, no reader is left.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._requests.fail_all, f"The engine failed: {_failure_cause(manager)}")

    async def _create_chooser(self, request: GenerationRequest) -> TokenChooser | None:
        """The request's chooser; None for plain greedy requests, for which transformers takes the most likely token."""
        if request.sampling.temperature == 0 and not request.requested_options() - {"prompt_logprobs"}:
            return None
        grammar = await self._grammars.compile(request.grammar) if request.grammar is not None else None
        return TokenChooser(request, grammar)

    def _result_handler(
        self, request: GenerationRequest, key: str, chooser: TokenChooser | None, on_chunk: ChunkCallback
    ) -> Callable[[Any], None]:
        """A function that turns transformers' cumulative outputs of one request into chunks."""
        sent = 0

        def handle(output: Any) -> None:
            nonlocal sent
            if chooser is not None and chooser.error is not None:
                if not output.is_finished():
                    self._cancel(key)
                on_chunk(EngineError(chooser.error))
                return
            if output.status == RequestStatus.FAILED:
                on_chunk(EngineError(f"The engine failed: {output.error}"))
                return
            new_tokens = tuple(output.generated_tokens[sent:])
            logprobs = tuple(chooser.logprobs[sent : sent + len(new_tokens)]) if chooser is not None else ()
            sent += len(new_tokens)
            reason: Literal["stop", "length"] | None = None
            if output.is_finished():
                reason = "stop" if ends_with_stop_token(request, new_tokens) else "length"
            if new_tokens or reason:
                on_chunk(TokenChunk(new_tokens, reason, logprobs))

        return handle

    def _submit(
        self,
        request: GenerationRequest,
        key: str,
        chooser: TokenChooser | None,
        chooser_id: int,
        on_chunk: ChunkCallback,
    ) -> None:
        """Queues the request. transformers calls its result handler in this event loop."""
        # Checked before add_request, because transformers logs the first ids of a prompt that it rejects.
        # can_accept_new_requests returns the reason why it cannot, or None.
        is_accepted = (
            self._manager is not None and self._manager.background_thread_status.can_accept_new_requests() is None
        )
        if is_accepted:
            self._manager.register_result_handler(key, self._result_handler(request, key, chooser, on_chunk))
            is_accepted = self._manager.add_request(
                list(request.prompt_token_ids),
                request_id=key,
                max_new_tokens=request.sampling.max_tokens,
                streaming=True,
                eos_token_id=list(request.stop_token_ids),
                chooser_id=chooser_id,
            )
        if not is_accepted:
            on_chunk(EngineError(f"The engine accepts no requests: {_failure_cause(self._manager)}"))

    def _cancel(self, key: str) -> None:
        if self._manager is not None:
            self._manager.cancel_request(key)

    def _forget(self, key: str) -> None:
        """Removes what transformers keeps of a cancelled request: its handler, and outputs queued without a handler."""
        if self._manager is not None:
            router = self._manager.output_router
            with router._lock:
                router.result_handlers.pop(key, None)
            drain_queue(router.output_queue)


def load_paged_model(config: EngineConfig, checkpoint: Path) -> Any:
    """The checkpoint as a transformers model whose attention reads a paged cache, on a GPU if there is one."""
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint,
        dtype=getattr(torch, config.dtype),
        attn_implementation=PAGED_ATTENTION,
        device_map="cuda" if torch.cuda.is_available() else None,
    )


def _failure_cause(manager: Any) -> str:
    status = getattr(manager, "background_thread_status", None)
    return str(getattr(status, "fatal_error", None) or "it was stopped or never started")
