"""The TensorRT-LLM engine: the only importer of tensorrt_llm. Token ids in, token ids out, no chat, no text.

What it uses of that package stands in tensorrt_llm_contract.json, per version; tests hold a fake, and `make test-gpu`
the real one, against it. It never ran on a GPU of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tensorrt_llm
from tensorrt_llm import llmapi

from serve_apps.engines.engine import EngineStats, GenerationRequest, SamplingParams, TokenChunk, TokenLogprob
from serve_apps.engines.running_requests import Deliver, RunningRequests, check_request
from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4, read_json
from tuneyard.configs.serve import EngineConfig
from tuneyard.configs.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.errors import ConfigError, EngineError, RequestError
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.local_gpus import describe_gpus
from tuneyard.planning.tensorrt_llm_arguments import llm_arguments

CONTRACT = Path(__file__).with_name("tensorrt_llm_contract.json")
WATCH_EVERY_S = 1.0
PROBE_AFTER_S = 30.0
"""Idle for so long, the engine is asked for a token when its health is checked: a dead one tells nothing by itself."""

PROBE_TIMEOUT_S = 15.0
"""Below Serve's health_check_timeout_s."""

_REFUSAL = (
    " TensorRT-LLM 1.2's sampler ignores seed, min_p, penalties and biases; grammars need "
    "engine.tensorrt_llm.guided_decoding_backend: llguidance."
)
_SECTIONS = {
    "kv_cache_config": "KvCacheConfig",
    "moe_config": "MoeConfig",
    "cuda_graph_config": "CudaGraphConfig",
    "attention_dp_config": "AttentionDpConfig",
    "speculative_config": "EagleDecodingConfig",
}

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _InEngine:
    """A request that TensorRT-LLM still holds, aborted ones until it has let go of them."""

    output: Any
    reader: asyncio.Task[None]
    is_cancelled: bool = False


class TensorRTLLMEngine:
    """See InferenceEngine. One event loop only: TensorRT-LLM wakes the one in which a request was made."""

    def __init__(self, config: EngineConfig, checkpoint: Path) -> None:
        assert config.tensorrt_llm is not None
        self._config: TensorRTLLMConfig = config.tensorrt_llm
        self._checkpoint = checkpoint
        self._vocabulary = int(read_json(checkpoint / "config.json")["vocab_size"])
        self._requests = RunningRequests()
        self._in_engine: dict[str, _InEngine] = {}
        self._serial = itertools.count()
        self._llm: Any = None
        self._watch: asyncio.Task[None] | None = None
        self._grammars: Any = None
        self._kv_cache_usage = 0.0
        self._last_token = time.monotonic()

    @property
    def max_model_len(self) -> int:
        return self._config.max_seq_len

    async def start(self) -> None:
        """Loads the model off the event loop. What goes wrong inside of TensorRT-LLM keeps its traceback."""
        _check_version(tensorrt_llm.__version__)
        _check_gpu(self._config.gpu)
        try:
            self._llm = await self._build()
        except Exception as e:
            if "gate_up_proj_blocks" in _whole_story(e) and not is_mxfp4(self._checkpoint):
                e.add_note(
                    "TensorRT-LLM hides any failure to load BF16 experts behind this KeyError. The checkpoint was "
                    "proved before, so look in the log for what failed first: most often memory (tuneyard serve plan)."
                )
            raise
        self._last_token = time.monotonic()
        self._watch = asyncio.create_task(self._watch_engine())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenChunk, None]:
        self._check(request)
        key = f"{request.request_id}#{next(self._serial)}"
        chunks = self._requests.run(
            request, lambda deliver: self._submit(request, key, deliver), lambda: self._cancel(key)
        )
        async with contextlib.aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def abort(self, request_id: str) -> None:
        self._requests.abort(request_id)

    def stats(self) -> EngineStats:
        held = len(self._in_engine)
        # Its statistics say nothing while it is idle, so the last ones would stay.
        return EngineStats(requests=held, kv_cache_usage=self._kv_cache_usage if held else 0.0)

    async def check_health(self) -> None:
        self._requests.check_alive()
        if self._llm is None:
            raise EngineError("The engine was never started.")
        if not self._llm._check_health():
            self._requests.die("The engine failed: TensorRT-LLM's executor has shut down.")
        elif not self._in_engine and time.monotonic() - self._last_token > PROBE_AFTER_S:
            await self._probe()
        self._requests.check_alive()

    async def shutdown(self) -> None:
        self._requests.die("The engine was shut down.")
        if self._watch is not None:
            self._watch.cancel()
        for held in list(self._in_engine.values()):
            held.reader.cancel()
        llm, self._llm = self._llm, None
        if llm is not None:
            await asyncio.to_thread(llm.shutdown)

    async def _build(self) -> Any:
        """LLM, built in a thread: it blocks for minutes, and its Ray executor wants no running loop."""
        config = self._config
        arguments = _typed(llm_arguments(config, is_mxfp4=is_mxfp4(self._checkpoint)))
        model = str(self._checkpoint)
        if config.orchestrator == "mpi" or config.tensor_parallel_size == 1:
            return await asyncio.to_thread(tensorrt_llm.LLM, model=model, **arguments)
        from ray.util import get_current_placement_group
        from tensorrt_llm._torch.async_llm import AsyncLLM

        group = get_current_placement_group()
        if group is None:
            raise ConfigError("orchestrator: ray needs the placement group that tuneyard's deployment makes.")
        # Bundle 0 is the replica's own; left to itself, TensorRT-LLM divides by zero on a head node without GPUs.
        bundles = list(range(1, config.tensor_parallel_size + 1))
        llm = await asyncio.to_thread(
            AsyncLLM, placement_groups=[group], placement_bundle_indices=[bundles], model=model, **arguments
        )
        await llm.setup_async()
        return llm

    def _check(self, request: GenerationRequest) -> None:
        options = {"logprobs"} | (
            {"response_format"} if self._config.guided_decoding_backend == "llguidance" else set()
        )
        check_request(request, self.max_model_len, options=frozenset(options), refusal=_REFUSAL)
        if request.grammar is not None:
            self._check_grammar(request.grammar)
        length, longest = len(request.prompt_token_ids), self._config.longest_prompt
        if length > longest:
            raise RequestError(
                f"The prompt has {length} tokens; this deployment takes prompts of up to {longest} (max_input_len).",
                param="messages",
                code="context_length_exceeded",
            )
        low, high = min(request.prompt_token_ids), max(request.prompt_token_ids)
        if low < 0 or high >= self._vocabulary:
            raise RequestError(
                f"The prompt has token ids from {low} to {high}; the model knows 0 to {self._vocabulary - 1}."
            )

    def _check_grammar(self, grammar: str) -> None:
        """Here, where a schema that cannot be enforced is still the request's mistake: a worker would only fail."""
        from serve_apps.engines.token_grammar import TokenGrammars

        self._grammars = self._grammars or TokenGrammars(self._checkpoint, self._vocabulary)
        self._grammars.compile(grammar)

    def _submit(self, request: GenerationRequest, key: str, deliver: Deliver) -> None:
        """Hands the request over. In the event loop: TensorRT-LLM binds a result to the loop that it was asked in."""
        try:
            output = self._llm.generate_async(
                list(request.prompt_token_ids), sampling_params=_sampling_params(request), streaming=True
            )
        except llmapi.RequestError as e:
            raise RequestError(f"TensorRT-LLM refuses the request: {e}") from e
        except Exception as e:
            raise self._failure(e) from e
        if not self._in_engine:
            self._last_token = time.monotonic()
        reader = asyncio.create_task(self._read(request, key, output, deliver))
        self._in_engine[key] = _InEngine(output, reader)

    async def _read(self, request: GenerationRequest, key: str, output: Any, deliver: Deliver) -> None:
        """Passes on what comes, to the end: an aborted request too, or TensorRT-LLM would keep its results."""
        given = 0
        try:
            async for step in output:
                self._last_token = time.monotonic()
                (completion,) = step.outputs
                fresh = tuple(completion.token_ids_diff)
                given += len(fresh)
                ending = self._ending(request, key, completion.finish_reason, fresh, given)
                if isinstance(ending, EngineError):
                    deliver(ending)
                elif fresh or ending is not None:
                    deliver(TokenChunk(fresh, ending, _logprobs(request, fresh, completion)))
        except Exception as e:  # noqa: BLE001  # whatever killed a worker comes out here, of any type
            deliver(self._failure(e))
            self._cancel(key)
        finally:
            self._in_engine.pop(key, None)

    def _failure(self, error: Exception) -> EngineError:
        """What a reader is told. An executor that has shut down over it is the end of the engine, for all."""
        if isinstance(error, EngineError):
            return error
        logger.error("TensorRT-LLM failed", exc_info=error)
        failed = EngineError(f"The engine failed: {type(error).__name__}: {error}")
        if self._llm is None or not self._llm._check_health():
            self._requests.die(failed.message)
        return failed

    def _ending(
        self, request: GenerationRequest, key: str, reason: str | None, fresh: tuple[int, ...], given: int
    ) -> Literal["stop", "length", "abort"] | EngineError | None:
        """TensorRT-LLM's finish_reason in the contract's words."""
        if reason is None:
            return None
        if reason == "stop":
            return "stop"
        if reason == "length":
            # It looks at the length before it looks at stop tokens.
            if fresh and fresh[-1] in request.stop_token_ids:
                return "stop"
            if given == request.sampling.max_tokens:
                return "length"
            return EngineError(f"TensorRT-LLM cut the answer after {given} of {request.sampling.max_tokens} tokens.")
        held = self._in_engine.get(key)
        if reason == "cancelled" and held is not None and held.is_cancelled:
            return "abort"
        return EngineError(f"TensorRT-LLM ended the request: {reason}.")

    def _cancel(self, key: str) -> None:
        held = self._in_engine.get(key)
        if held is not None and not held.is_cancelled:
            held.is_cancelled = True
            # Over Ray it waits for the worker.
            aborting = asyncio.get_running_loop().run_in_executor(None, held.output.abort)
            aborting.add_done_callback(_log_failure)

    async def _watch_engine(self) -> None:
        """Reads statistics, and takes an engine for dead that holds requests and gives no token.

        Requests that wait for a dead worker are told nothing by TensorRT-LLM 1.2.
        """
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            waited = time.monotonic() - self._last_token
            if self._in_engine and waited > self._config.stall_timeout_s:
                self._requests.die(
                    f"The engine failed: {len(self._in_engine)} request(s) and no token for {waited:.0f} s "
                    "(stall_timeout_s)."
                )
            if self._in_engine and self._llm is not None:
                await self._read_statistics(self._llm)

    async def _read_statistics(self, llm: Any) -> None:
        try:
            records = await asyncio.to_thread(llm.get_stats, timeout=0.05)
        except Exception as e:  # noqa: BLE001  # of any type; an engine that is dead is found out elsewhere
            logger.warning("TensorRT-LLM gives no statistics: %s", e)
            return
        cache = (records[-1].get("kvCacheStats") if records else None) or {}
        if cache.get("maxNumBlocks"):
            self._kv_cache_usage = cache.get("usedNumBlocks", 0) / cache["maxNumBlocks"]

    async def _probe(self) -> None:
        """One token, or the engine is dead."""
        asked = GenerationRequest(f"probe-{next(self._serial)}", (0,), SamplingParams(1, temperature=0.0), ())
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                async for _ in self.generate(asked):
                    pass
        except TimeoutError:
            self._requests.die(f"The engine failed: idle, it gave no token within {PROBE_TIMEOUT_S:.0f} s.")


def _check_version(version: str) -> None:
    known = sorted(json.loads(CONTRACT.read_bytes()))
    if version not in known:
        raise ConfigError(
            f"TensorRT-LLM {version} is installed; this adapter was written for {', '.join(known)}. Install that, as "
            f"the serve image does, or hold the new one against {CONTRACT.name} with `make test-gpu` and add it there."
        )


def _check_gpu(name: str) -> None:
    """Refuses a GPU of another generation than the config was written for."""
    for gpu in describe_gpus()[:1]:  # without any, TensorRT-LLM itself says so, and better
        if gpu["sm"] != GPUS[name].sm:
            raise ConfigError(
                f"engine.tensorrt_llm.gpu is {name} (SM {GPUS[name].sm}), this replica got {gpu['name']} "
                f"(SM {gpu['sm']}): its kernels are others. Change the config, or place the replica on another node."
            )


def _typed(arguments: dict[str, Any]) -> dict[str, Any]:
    """The sections as TensorRT-LLM's own classes, which refuse what they do not know."""
    return {
        name: getattr(llmapi, _SECTIONS[name])(**value) if name in _SECTIONS and value is not None else value
        for name, value in arguments.items()
    }


def _sampling_params(request: GenerationRequest) -> Any:
    """A new one per request: TensorRT-LLM writes into it. Everything explicit, for its defaults are not OpenAI's:
    32 tokens, and greedy.
    """
    sampling, stops = request.sampling, request.stop_token_ids
    return tensorrt_llm.SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        # Without a tokenizer it must be given; -1 is no token, so only max_tokens ends the answer.
        end_id=stops[0] if stops else -1,
        stop_token_ids=list(stops[1:]) or None,
        # The codec needs the token that ended the answer.
        include_stop_str_in_output=True,
        detokenize=False,
        guided_decoding=None if request.grammar is None else llmapi.GuidedDecodingParams(grammar=request.grammar),
        # 0 means off there; the chosen token is always among them.
        logprobs=None if request.logprobs is None else max(1, request.logprobs),
    )


def _logprobs(request: GenerationRequest, tokens: tuple[int, ...], completion: Any) -> tuple[TokenLogprob, ...]:
    if request.logprobs is None:
        return ()
    result = []
    for token, entry in zip(tokens, completion.logprobs_diff, strict=True):
        if token not in entry:
            raise EngineError(f"TensorRT-LLM gave no log-probability of the token {token} that it chose.")
        ranked = sorted(((other.logprob, name) for name, other in entry.items()), reverse=True)
        top = tuple((name, value) for value, name in ranked[: request.logprobs])
        result.append(TokenLogprob(token, entry[token].logprob, top))
    return tuple(result)


def _whole_story(error: BaseException | None) -> str:
    """The texts of an error and of what caused it."""
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def _log_failure(done: asyncio.Future[Any]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        logger.warning("TensorRT-LLM did not abort a request: %s", error)
