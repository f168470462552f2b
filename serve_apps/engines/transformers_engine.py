"""The embedded engine: transformers' continuous batching over a paged KV cache, on a CPU or a GPU."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers.generation.continuous_batching import RequestStatus
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.utils import drain_queue
from transformers.generation.logits_process import LogitsProcessorList

from serve_apps.engines.engine import OPTIONS, EngineStats, GenerationRequest, TokenChunk
from serve_apps.engines.request_sampler import GREEDY_SLOT, RequestSampler, Slot
from serve_apps.engines.running_requests import Deliver, RunningRequests, check_request
from serve_apps.engines.token_grammar import TokenGrammars
from tuneyard.configs.serve import EngineConfig
from tuneyard.core.errors import EngineError, RequestError

PAGE_SIZE = 32
"""Tokens per page of the KV cache. Small, because each request wastes half a page on average."""

SWITCH_INTERVAL_S = 0.0005
"""How long the event loop waits for the interpreter's lock before it insists. At Python's 5 ms every token can wait so
long on its way out, for the generation thread gives the lock up for moments only.
"""


class TransformersEngine:
    """See InferenceEngine."""

    def __init__(self, config: EngineConfig, checkpoint: Path) -> None:
        self._config = config
        self._checkpoint = checkpoint
        self._requests = RunningRequests()
        self._sampler = RequestSampler()
        self._manager: Any = None
        self._serial = itertools.count()
        model_config = transformers.AutoConfig.from_pretrained(checkpoint)
        self._vocabulary = int(model_config.vocab_size)
        self._grammars = TokenGrammars(checkpoint, self._vocabulary)
        # One request must fit the cache, or the library's loop dies with "No requests can be scheduled".
        self._max_model_len = min(int(model_config.max_position_embeddings), config.kv_cache_tokens)

    @property
    def max_model_len(self) -> int:
        return self._max_model_len

    async def start(self) -> None:
        """Loads the model and starts the generation thread. What goes wrong comes out as it is."""
        loop = asyncio.get_running_loop()
        self._manager = await asyncio.to_thread(self._load)
        threading.Thread(target=self._watch, args=(self._manager, loop), name="engine-watch", daemon=True).start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        self._check(request)
        # The library knows a request by an id of our own: it applies cancellations after additions, so
        # one that still waits there would take a new request with the same id with it, without a word.
        key = f"{request.request_id}#{next(self._serial)}"
        slot = self._slot(request)
        number = self._sampler.add(slot) if slot is not None else GREEDY_SLOT
        chunks = self._requests.run(
            request, lambda deliver: self._submit(request, key, slot, number, deliver), lambda: self._cancel(key)
        )
        try:
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
        finally:
            self._sampler.release(number)
            self._forget(key)

    async def abort(self, request_id: str) -> None:
        self._requests.abort(request_id)

    def stats(self) -> EngineStats:
        processor = self._manager.batch_processor if self._manager is not None else None
        # list() of a dict's values is one step for the interpreter, so the generation thread cannot disturb it.
        active = list(processor.scheduler.active_requests.values()) if processor is not None else []
        used = sum(state.current_len() for state in active)
        return EngineStats(requests=len(self._requests), kv_cache_usage=min(1.0, used / self._config.kv_cache_tokens))

    async def check_health(self) -> None:
        self._requests.check_alive()
        if self._manager is None or not self._manager.is_running():
            raise EngineError(f"The engine is not running: {_cause(self._manager)}")

    async def shutdown(self) -> None:
        self._requests.die("The engine was shut down.")
        manager, self._manager = self._manager, None
        if manager is not None:
            await asyncio.to_thread(manager.stop, block=True, hard_stop=True)

    def _load(self) -> Any:
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        on_gpu = torch.cuda.is_available()
        if not on_gpu and self._config.threads is not None:
            torch.set_num_threads(self._config.threads)
        transformers.utils.logging.disable_progress_bar()
        model = transformers.AutoModelForCausalLM.from_pretrained(
            self._checkpoint,
            dtype=getattr(torch, self._config.dtype),
            attn_implementation="paged|eager",
            device_map="cuda" if on_gpu else None,
        )
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
            # Makes the cache here, where an error stops the start, and not in the generation thread.
            manager.warmup()
            manager.start()
        return manager

    def _watch(self, manager: Any, loop: asyncio.AbstractEventLoop) -> None:
        """Waits, in a thread of its own, for the end of the generation thread, and tells all running requests."""
        manager._generation_thread.join()
        # The loop may be closed by then; nobody is left to tell.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._requests.die, f"The engine failed: {_cause(manager)}")

    def _slot(self, request: GenerationRequest) -> Slot | None:
        """None for a request that the library's own argmax answers."""
        if request.sampling.temperature == 0 and not request.options() - {"seed"}:
            return None
        grammar = self._grammars.compile(request.grammar) if request.grammar is not None else None
        return Slot(request, grammar)

    def _check(self, request: GenerationRequest) -> None:
        check_request(request, self._max_model_len, options=OPTIONS)
        for token, _ in request.sampling.logit_bias:
            if not 0 <= token < self._vocabulary:
                raise RequestError(
                    f"logit_bias names the token {token}; the model knows 0 to {self._vocabulary - 1}.",
                    param="logit_bias",
                )
        low, high = min(request.prompt_token_ids), max(request.prompt_token_ids)
        if low < 0 or high >= self._vocabulary:
            raise RequestError(
                f"The prompt has token ids from {low} to {high}; the model knows 0 to {self._vocabulary - 1}."
            )

    def _submit(self, request: GenerationRequest, key: str, slot: Slot | None, number: int, deliver: Deliver) -> None:
        """Queues the request; its results arrive in this event loop."""
        given = 0
        stops = set(request.stop_token_ids)

        def on_output(output: Any) -> None:
            nonlocal given
            if slot is not None and slot.problem is not None and not output.is_finished():
                self._cancel(key)
            if slot is not None and slot.problem is not None:
                deliver(EngineError(slot.problem))
                return
            if output.status == RequestStatus.FAILED:
                deliver(EngineError(f"The engine failed: {output.error}"))
                return
            fresh = tuple(output.generated_tokens[given:])
            logprobs = tuple(slot.logprobs[given : given + len(fresh)]) if slot is not None else ()
            given += len(fresh)
            reason: Literal["stop", "length"] | None = None
            if output.is_finished():
                reason = "stop" if fresh and fresh[-1] in stops else "length"
            if fresh or reason:
                deliver(TokenChunk(fresh, reason, logprobs))

        # Asked first, because the library logs the first ids of a prompt that it drops.
        refused = self._manager is None or self._manager.background_thread_status.can_accept_new_requests()
        if not refused:
            self._manager.register_result_handler(key, on_output)
            refused = not self._manager.add_request(
                list(request.prompt_token_ids),
                request_id=key,
                max_new_tokens=request.sampling.max_tokens,
                streaming=True,
                eos_token_id=list(request.stop_token_ids),
                slot=number,
            )
        if refused:
            deliver(EngineError(f"The engine takes no requests: {_cause(self._manager)}"))

    def _cancel(self, key: str) -> None:
        if self._manager is not None:
            self._manager.cancel_request(key)

    def _forget(self, key: str) -> None:
        """Drops what the library keeps of a cancelled request: its handler, and outputs that came without one."""
        if self._manager is not None:
            router = self._manager.output_router
            with router._lock:
                router.result_handlers.pop(key, None)
            drain_queue(router.output_queue)


def _cause(manager: Any) -> str:
    status = getattr(manager, "background_thread_status", None)
    return str(getattr(status, "fatal_error", None) or "it was stopped or never started")
