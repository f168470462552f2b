"""The embedded engine: transformers' continuous batching over a paged KV cache, on a CPU or a GPU."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers.generation.continuous_batching import RequestStatus
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.logits_process import LogitsProcessorList

from serve_apps.inference_engine import EngineStats, GenerationRequest, TokenChunk
from serve_apps.request_sampler import RequestSampler
from serve_apps.running_requests import RunningRequests, check_prompt_fits
from tuneyard.errors import EngineError
from tuneyard.serve_config import EngineConfig

PAGE_SIZE = 32
"""Tokens per page of the KV cache. Small, because each request wastes half a page on average."""


class TransformersEngine:
    """See InferenceEngine."""

    def __init__(self, config: EngineConfig, checkpoint: Path) -> None:
        self._config = config
        self._checkpoint = checkpoint
        self._requests = RunningRequests()
        self._sampler = RequestSampler()
        self._manager: Any = None
        model_config = transformers.AutoConfig.from_pretrained(checkpoint)
        # One request must fit the cache, or the library's loop dies with "No requests can be scheduled".
        self._max_model_len = min(int(model_config.max_position_embeddings), config.kv_cache_tokens)

    @property
    def max_model_len(self) -> int:
        return self._max_model_len

    async def start(self) -> None:
        """Loads the model in a thread. A load error comes out as it is."""
        self._manager = await asyncio.to_thread(self._load)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        check_prompt_fits(request, self._max_model_len)
        slot = self._sampler.slot_for(request.sampling)
        chunks = self._requests.run(
            request, lambda: self._submit(request, slot), lambda: self._manager.cancel_request(request.request_id)
        )
        try:
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
        finally:
            self._sampler.release(slot)

    async def abort(self, request_id: str) -> None:
        if self._requests.abort(request_id):
            self._manager.cancel_request(request_id)

    def stats(self) -> EngineStats:
        processor = self._manager.batch_processor if self._manager is not None else None
        # list() of a dict's values is one step for the interpreter, so the generation thread cannot disturb it.
        active = list(processor.scheduler.active_requests.values()) if processor is not None else []
        used = sum(state.current_len() for state in active)
        return EngineStats(requests=len(self._requests), kv_cache_usage=min(1.0, used / self._config.kv_cache_tokens))

    async def check_health(self) -> None:
        if self._requests.death is None and not (self._manager is not None and self._manager.is_running()):
            self._requests.die(EngineError(f"The generation thread is gone: {self._cause()}"))
        if self._requests.death is not None:
            raise self._requests.death

    async def shutdown(self) -> None:
        self._requests.die(EngineError("The engine was shut down."))
        manager, self._manager = self._manager, None
        if manager is not None:
            await asyncio.to_thread(manager.stop, block=True, hard_stop=True)

    def _load(self) -> Any:
        on_gpu = torch.cuda.is_available()
        if not on_gpu and self._config.threads is not None:
            torch.set_num_threads(self._config.threads)
        transformers.utils.logging.disable_progress_bar()
        model = transformers.AutoModelForCausalLM.from_pretrained(
            self._checkpoint,
            dtype=getattr(torch, self._config.dtype),
            attn_implementation="paged|eager",
            device_map="cuda" if on_gpu else None,
            # On a CPU the grouped kernel, transformers' default, is the slower one.
            **({} if on_gpu else {"experts_implementation": "eager"}),
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
            manager.start()
        return manager

    def _submit(self, request: GenerationRequest, slot: int) -> None:
        """Queues the request; its results arrive in this event loop."""
        given = 0
        stops = set(request.stop_token_ids)

        def on_output(output: Any) -> None:
            nonlocal given
            if output.status == RequestStatus.FAILED:
                self._requests.deliver(request.request_id, EngineError(f"The engine failed: {output.error}"))
                return
            fresh = tuple(output.generated_tokens[given:])
            given += len(fresh)
            reason: Literal["stop", "length"] | None = None
            if output.is_finished():
                reason = "stop" if fresh and fresh[-1] in stops else "length"
            if fresh or reason:
                self._requests.deliver(request.request_id, TokenChunk(fresh, reason))

        self._manager.register_result_handler(request.request_id, on_output)
        accepted = self._manager.add_request(
            list(request.prompt_token_ids),
            request_id=request.request_id,
            max_new_tokens=request.sampling.max_tokens,
            streaming=True,
            eos_token_id=list(request.stop_token_ids),
            slot=slot,
        )
        # The library only warns when its loop has ended, and drops the request.
        if accepted is None:
            self._requests.die(EngineError(f"The engine takes no more requests: {self._cause()}"))

    def _cause(self) -> str:
        status = getattr(self._manager, "background_thread_status", None)
        return str(getattr(status, "fatal_error", None) or "it was stopped or never started")
