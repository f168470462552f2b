"""The TensorRT-LLM engine: the only module that imports tensorrt_llm. Token ids in, token ids out.

tensorrt_llm_contract.json lists, per version, everything that the engine uses of tensorrt_llm. Tests check a fake of
tensorrt_llm against it, and `make test-gpu` checks the real one. This engine has not run on a GPU yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorrt_llm
from tensorrt_llm import llmapi

from serve_apps.engines.engine import EngineStats, GenerationRequest, SamplingParams, TokenChunk
from serve_apps.engines.request_checks import check_request, check_token_ids
from serve_apps.engines.running_requests import ChunkCallback, RunningRequests
from serve_apps.engines.tensorrt_llm_compatibility import check_gpu, check_version, stop_usage_reports
from serve_apps.engines.tensorrt_llm_requests import (
    cached_prompt_tokens,
    finish_reason,
    sampling_arguments,
    token_logprobs,
)
from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.configs.grammar_limits import GrammarLimits
from tuneyard.core.errors import ConfigError, EngineError, RequestError
from tuneyard.planning.tensorrt_llm_arguments import llm_arguments

WATCH_INTERVAL_S = 1.0

PROBE_AFTER_S = 30.0
"""If no token came for this long, a health check of an idle engine generates one: an idle engine that has died reports
nothing by itself."""

PROBE_TIMEOUT_S = 15.0
"""Must be less than Ray Serve's health_check_timeout_s."""

_UNSUPPORTED_REASON = (
    " TensorRT-LLM 1.2's sampler ignores seed, min_p, penalties and biases; grammars need "
    "engine.tensorrt_llm.guided_decoding_backend: llguidance."
)
_SECTION_CLASSES = {
    "kv_cache_config": "KvCacheConfig",
    "moe_config": "MoeConfig",
    "cuda_graph_config": "CudaGraphConfig",
    "attention_dp_config": "AttentionDpConfig",
    "speculative_config": "EagleDecodingConfig",
}
"""The class in tensorrt_llm.llmapi of each argument of LLM that is a section."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _HeldRequest:
    """A request that TensorRT-LLM holds; an aborted one stays until TensorRT-LLM has ended it."""

    output: Any
    reader: asyncio.Task[None]
    is_cancelled: bool = False


class TensorRTLLMEngine:
    """See InferenceEngine. Use it from one event loop: TensorRT-LLM delivers results to the loop of the request."""

    def __init__(self, config: EngineConfig, checkpoint: Path) -> None:
        assert config.tensorrt_llm is not None
        self._config: TensorRTLLMConfig = config.tensorrt_llm
        self._checkpoint = checkpoint
        self._vocabulary_size = int(read_json(checkpoint / "config.json")["vocab_size"])
        self._requests = RunningRequests()
        self._held: dict[str, _HeldRequest] = {}
        self._serial = itertools.count()
        self._llm: Any = None
        self._watch_task: asyncio.Task[None] | None = None
        self._grammars: Any = None
        self._kv_cache_usage = 0.0
        self._last_token_time = time.monotonic()

    @property
    def max_model_len(self) -> int:
        return self._config.max_seq_len

    async def start(self) -> None:
        """Loads the model. Raises ConfigError for another version or GPU, and TensorRT-LLM's errors unchanged."""
        check_version(tensorrt_llm.__version__)
        check_gpu(self._config.gpu)
        stop_usage_reports()
        try:
            self._llm = await self._create_llm()
        except Exception as e:
            if "gate_up_proj_blocks" in _error_chain_text(e) and not is_mxfp4(self._checkpoint):
                e.add_note(
                    "TensorRT-LLM reports every failure to load BF16 experts as this KeyError. The checkpoint itself "
                    "was proved, so look for the first error in the log. The usual cause is too little memory "
                    "(tuneyard serve plan)."
                )
            raise
        self._last_token_time = time.monotonic()
        self._watch_task = asyncio.create_task(self._watch())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        self._check(request)
        if request.grammar is not None:
            await self._check_grammar(request.grammar)
        key = f"{request.request_id}#{next(self._serial)}"
        chunks = self._requests.run(
            request, lambda on_chunk: self._submit(request, key, on_chunk), lambda: self._cancel(key)
        )
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def abort(self, request_id: str) -> None:
        self._requests.abort(request_id)

    def stats(self) -> EngineStats:
        # TensorRT-LLM reports no statistics while it is idle, so the last value would stay.
        return EngineStats(requests=len(self._held), kv_cache_usage=self._kv_cache_usage if self._held else 0.0)

    async def check_health(self) -> None:
        self._requests.check_alive()
        if self._llm is None:
            raise EngineError("The engine was never started.")
        if not self._llm._check_health():
            self._requests.fail_all("The engine failed: TensorRT-LLM's executor has shut down.")
        elif not self._held and time.monotonic() - self._last_token_time > PROBE_AFTER_S:
            await self._probe()
        self._requests.check_alive()

    async def shutdown(self) -> None:
        self._requests.fail_all("The engine was shut down.")
        if self._grammars is not None:
            self._grammars.close()
        if self._watch_task is not None:
            self._watch_task.cancel()
        for held in list(self._held.values()):
            held.reader.cancel()
        llm, self._llm = self._llm, None
        if llm is not None:
            await asyncio.to_thread(llm.shutdown)

    async def _create_llm(self) -> Any:
        """Creates LLM in a thread, because it blocks for minutes and its Ray executor needs a thread without a loop."""
        config = self._config
        arguments = _with_section_classes(llm_arguments(config, is_mxfp4=is_mxfp4(self._checkpoint)))
        model = str(self._checkpoint)
        if config.orchestrator == "mpi" or config.tensor_parallel_size == 1:
            return await asyncio.to_thread(tensorrt_llm.LLM, model=model, **arguments)
        from ray.util import get_current_placement_group
        from tensorrt_llm._torch.async_llm import AsyncLLM

        group = get_current_placement_group()
        if group is None:
            raise ConfigError(
                "engine.tensorrt_llm.orchestrator: ray needs the placement group that Tuneyard's deployment creates. "
                "This process has none: deploy the model with serve_apps.deploy."
            )
        # Bundle 0 is the replica's own. Without explicit bundles, TensorRT-LLM divides by zero on a head node that has
        # no GPUs.
        bundles = list(range(1, config.tensor_parallel_size + 1))
        llm = await asyncio.to_thread(
            AsyncLLM, placement_groups=[group], placement_bundle_indices=[bundles], model=model, **arguments
        )
        await llm.setup_async()
        return llm

    def _check(self, request: GenerationRequest) -> None:
        """Raises RequestError for a request that the engine cannot answer."""
        options = {"logprobs"} | (
            {"response_format"} if self._config.guided_decoding_backend == "llguidance" else set()
        )
        check_request(request, self.max_model_len, options=frozenset(options), reason=_UNSUPPORTED_REASON)
        length, longest = len(request.prompt_token_ids), self._config.max_prompt_tokens
        if length > longest:
            raise RequestError(
                f"The prompt has {length} tokens; this deployment accepts prompts of up to {longest} tokens "
                "(max_input_len).",
                param="messages",
                code="context_length_exceeded",
            )
        check_token_ids(request, self._vocabulary_size)

    async def _check_grammar(self, grammar: str) -> None:
        """Compiles the grammar here, where an unenforceable schema is a RequestError: a worker would only fail."""
        from serve_apps.engines.grammars.grammar_compiler import GrammarCompiler

        self._grammars = self._grammars or GrammarCompiler(self._checkpoint, self._vocabulary_size, GrammarLimits())
        await self._grammars.prove(grammar)

    def _submit(self, request: GenerationRequest, key: str, on_chunk: ChunkCallback) -> None:
        """Passes the request to TensorRT-LLM. Call it in the event loop: TensorRT-LLM binds the result to that loop."""
        try:
            output = self._llm.generate_async(
                list(request.prompt_token_ids), sampling_params=_sampling_params(request), streaming=True
            )
        except llmapi.RequestError as e:
            raise RequestError(f"TensorRT-LLM refuses the request: {e}") from e
        except Exception as e:
            raise self._engine_error(e, request.request_id) from e
        if not self._held:
            self._last_token_time = time.monotonic()
        reader = asyncio.create_task(self._read(request, key, output, on_chunk))
        self._held[key] = _HeldRequest(output, reader)

    async def _read(self, request: GenerationRequest, key: str, output: Any, on_chunk: ChunkCallback) -> None:
        """Passes on the results until the last one, for aborted requests too: otherwise TensorRT-LLM keeps them."""
        total_tokens = 0
        try:
            async for step in output:
                self._last_token_time = time.monotonic()
                (completion,) = step.outputs
                new_tokens = tuple(completion.token_ids_diff)
                total_tokens += len(new_tokens)
                is_cancelled = key in self._held and self._held[key].is_cancelled
                try:
                    reason = finish_reason(
                        request, completion.finish_reason, new_tokens, total_tokens, is_cancelled=is_cancelled
                    )
                except EngineError as e:
                    on_chunk(e)
                    continue
                if new_tokens or reason is not None:
                    # logprobs_diff exists only if log-probabilities were requested.
                    reported = completion.logprobs_diff if request.logprobs is not None else ()
                    logprobs = token_logprobs(request, new_tokens, reported)
                    cached = cached_prompt_tokens(step)
                    on_chunk(TokenChunk(new_tokens, reason, logprobs, cached_prompt_tokens=cached))
        except Exception as e:  # noqa: BLE001  # a worker's failure is raised here, as any type
            on_chunk(self._engine_error(e, request.request_id))
            self._cancel(key)
        finally:
            self._held.pop(key, None)

    def _engine_error(self, error: Exception, request_id: str) -> EngineError:
        """The EngineError for an error of TensorRT-LLM. If its executor has shut down, all requests end."""
        if isinstance(error, EngineError):
            return error
        logger.error("TensorRT-LLM failed in request %s", request_id, exc_info=error)
        engine_error = EngineError(f"The engine failed: {type(error).__name__}: {error}")
        if self._llm is None or not self._llm._check_health():
            self._requests.fail_all(engine_error.message)
        return engine_error

    def _cancel(self, key: str) -> None:
        held = self._held.get(key)
        if held is not None and not held.is_cancelled:
            held.is_cancelled = True
            # In a thread: with Ray, abort waits for the worker.
            aborting = asyncio.get_running_loop().run_in_executor(None, held.output.abort)
            aborting.add_done_callback(_log_failed_abort)

    async def _watch(self) -> None:
        """Reads statistics, and fails the engine if it holds requests and generates no token for stall_timeout_s.

        TensorRT-LLM 1.2 does not report a dead worker to requests that are waiting for it; 1.3 does, but not one that
        hangs.
        """
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            waited_s = time.monotonic() - self._last_token_time
            if self._held and waited_s > self._config.stall_timeout_s:
                self._requests.fail_all(
                    f"The engine failed: it holds {len(self._held)} request(s) and generated no token for "
                    f"{waited_s:.0f} s (stall_timeout_s)."
                )
            if self._held and self._llm is not None:
                await self._read_statistics(self._llm)

    async def _read_statistics(self, llm: Any) -> None:
        try:
            records = await asyncio.to_thread(llm.get_stats, timeout=0.05)
        except Exception as e:  # noqa: BLE001  # of any type; _watch and check_health detect a failed engine
            logger.warning("TensorRT-LLM's statistics are not available: %s", e)
            return
        cache = (records[-1].get("kvCacheStats") if records else None) or {}
        if cache.get("maxNumBlocks"):
            self._kv_cache_usage = cache.get("usedNumBlocks", 0) / cache["maxNumBlocks"]

    async def _probe(self) -> None:
        """Generates one token; fails the engine if that takes longer than PROBE_TIMEOUT_S."""
        request = GenerationRequest(f"probe-{next(self._serial)}", (0,), SamplingParams(1, temperature=0.0), ())
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                async for _ in self.generate(request):
                    pass
        except TimeoutError:
            self._requests.fail_all(
                f"The engine failed: while idle, it did not generate a token within {PROBE_TIMEOUT_S:.0f} s."
            )


def _with_section_classes(arguments: dict[str, Any]) -> dict[str, Any]:
    """LLM's arguments with each section as TensorRT-LLM's own class, which refuses unknown fields."""
    return {
        name: getattr(llmapi, _SECTION_CLASSES[name])(**value)
        if name in _SECTION_CLASSES and value is not None
        else value
        for name, value in arguments.items()
    }


def _sampling_params(request: GenerationRequest) -> Any:
    """A new tensorrt_llm.SamplingParams for each request, because TensorRT-LLM changes it."""
    arguments = sampling_arguments(request)
    if arguments["guided_decoding"] is not None:
        arguments["guided_decoding"] = llmapi.GuidedDecodingParams(**arguments["guided_decoding"])
    return tensorrt_llm.SamplingParams(**arguments)


def _error_chain_text(error: BaseException | None) -> str:
    """The messages of an error and of the errors that caused it, one per line."""
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def _log_failed_abort(aborting: asyncio.Future[Any]) -> None:
    if not aborting.cancelled() and (error := aborting.exception()) is not None:
        logger.warning("TensorRT-LLM did not abort a request: %s", error)
