"""The worker: a thread that runs a real GPT-OSS, one token per request in turn, with a KV cache of limited size."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

import tensorrt_llm
from tensorrt_llm.executor.result import Logprob, RequestOutput, Response
from tensorrt_llm.llmapi import TorchLlmArgs
from tensorrt_llm.sampling_params import SamplingParams

TOKENS_PER_BLOCK = 32
KV_CACHE_TOKENS = 4 * 8192


@dataclass(slots=True)
class Running:
    """A running request, with the generated tokens that were not sent yet."""

    output: RequestOutput
    pending: list[int]
    params: SamplingParams
    max_tokens: int
    cache: Any = None
    made: int = 0
    unsent: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """KV cache blocks for the longest possible answer, reserved at the start (GUARANTEED_NO_EVICT)."""
        return -(-(len(self.pending) + self.max_tokens) // TOKENS_PER_BLOCK)


class Worker:
    """Fails on `crash` and `hang`, and after as many tokens as the variable FAKE_TRTLLM_CRASH_AFTER_TOKENS says."""

    def __init__(self, args: TorchLlmArgs) -> None:
        torch.set_num_threads(1)
        quantised = hasattr(transformers.AutoConfig.from_pretrained(args.model), "quantization_config")
        self._model = transformers.GptOssForCausalLM.from_pretrained(
            args.model,
            dtype=torch.float32,
            attn_implementation="eager",
            **({"quantization_config": transformers.Mxfp4Config(dequantize=True)} if quantised else {}),
        ).float()
        self._args = args
        self._generator = torch.Generator().manual_seed(42)
        self._blocks = KV_CACHE_TOKENS // TOKENS_PER_BLOCK
        self._lock = threading.Lock()
        self._waiting: deque[Running] = deque()
        self._active: dict[int, tuple[Running, int]] = {}
        self._aborted: set[int] = set()
        self._statistics: deque[dict[str, Any]] = deque(maxlen=1000)
        self._tokens_left = int(os.environ.get("FAKE_TRTLLM_CRASH_AFTER_TOKENS", "0")) or None
        self._stopping = self._hanging = self.paused = False
        self.cached_tokens = 0
        """What each request reports as found in the KV cache; set by a test."""
        self.fatal: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fake-tensorrt-llm", daemon=True)
        self._thread.start()

    def submit(self, output: RequestOutput, prompt: list[int], params: SamplingParams) -> None:
        # max_tokens is reduced to the remaining context silently.
        available = (self._args.max_seq_len or 8192) - len(prompt)
        with self._lock:
            self._waiting.append(Running(output, list(prompt), params, min(params.max_tokens, available)))

    def abort(self, request_id: int) -> None:
        with self._lock:
            self._aborted.add(request_id)

    def crash(self) -> None:
        """Dies with an exception that the next step or submit raises; 1.3 passes it to waiting requests too."""
        self._stopping = True
        self.fatal = RuntimeError("CUDA error: an illegal memory access was encountered")
        if not tensorrt_llm.__version__.startswith("1.2"):
            with self._lock:
                held = [*self._waiting, *(running for running, _ in self._active.values())]
            for running in held:
                running.output.put(Response([], fatal=self.fatal))

    def hang(self) -> None:
        """Generates no further token and reports nothing."""
        self._hanging = True

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()

    def take_statistics(self) -> list[dict[str, Any]]:
        with self._lock:
            taken = list(self._statistics)
            self._statistics.clear()
        return taken

    def _run(self) -> None:
        while not self._stopping:
            if self._hanging or self.paused:
                time.sleep(0.01)
                continue
            with self._lock:
                self._admit()
                self._end_aborted()
                active = [running for running, _ in self._active.values()]
            if not active:
                time.sleep(0.002)
                continue
            for running in active:
                self._step(running)
            self._record()

    def _admit(self) -> None:
        while self._waiting and len(self._active) < self._args.max_batch_size:
            taken = sum(blocks for _, blocks in self._active.values())
            if taken + self._waiting[0].blocks > self._blocks:
                return
            running = self._waiting.popleft()
            running.output.cached_tokens = self.cached_tokens
            self._active[running.output.request_id] = (running, running.blocks)

    def _end_aborted(self) -> None:
        for request_id in self._aborted & self._active.keys():
            running, _ = self._active.pop(request_id)
            running.output.put(Response([], finish_reason="cancelled"))
        for running in [r for r in self._waiting if r.output.request_id in self._aborted]:
            self._waiting.remove(running)
            running.output.put(Response([], finish_reason="cancelled"))
        self._aborted.clear()

    def _step(self, running: Running) -> None:
        """Generates one token of one request."""
        if self._tokens_left is not None:
            self._tokens_left -= 1
            if self._tokens_left < 0:
                self.crash()
        if self._stopping:
            return
        with torch.inference_mode():
            result = self._model(torch.tensor([running.pending]), cache=running.cache, use_cache=True)
        running.cache = result.past_key_values
        token, logprobs = self._choose(result.logits[0, -1].float(), running.params)
        running.pending = [token]
        running.made += 1
        running.unsent.append(token)
        running.logprobs += logprobs
        reason, trim = _ending(running, token)
        if reason is not None or running.made % self._args.stream_interval == 0:
            running.output.put(Response(running.unsent, running.logprobs, reason, trim))
            running.unsent, running.logprobs = [], []
        if reason is not None:
            with self._lock:
                self._active.pop(running.output.request_id, None)

    def _choose(self, logits: torch.Tensor, params: SamplingParams) -> tuple[int, list[dict[int, Logprob]]]:
        token = int(logits.argmax()) if params.is_greedy else self._draw(logits, params)
        if not params.logprobs:
            return token, []
        log_probabilities = logits.log_softmax(-1)
        best = log_probabilities.topk(params.logprobs)
        entry = {int(i): Logprob(float(v), n) for n, (v, i) in enumerate(zip(*best, strict=True), start=1)}
        entry.setdefault(token, Logprob(float(log_probabilities[token]), params.logprobs + 1))
        return token, [entry]

    def _draw(self, logits: torch.Tensor, params: SamplingParams) -> int:
        order = (logits / (params.temperature or 1.0)).softmax(-1).sort(descending=True)
        kept = order.values.clone()
        if params.top_k:
            kept[params.top_k :] = 0
        if params.top_p is not None:
            kept[kept.cumsum(-1) - kept >= params.top_p] = 0
        return int(order.indices[torch.multinomial(kept, 1, generator=self._generator)])

    def _record(self) -> None:
        with self._lock:
            taken = sum(blocks for _, blocks in self._active.values())
            self._statistics.append(
                {
                    "numActiveRequests": len(self._active),
                    "numQueuedRequests": len(self._waiting),
                    "kvCacheStats": {"maxNumBlocks": self._blocks, "usedNumBlocks": taken},
                }
            )


def _ending(running: Running, token: int) -> tuple[str | None, int]:
    """finish_reason and the number of stop word tokens to remove. Checks the end token, the length, then stop words."""
    params = running.params
    if token == params.end_id:
        return "stop", 0
    if running.made >= running.max_tokens:
        return "length", 0
    if token in (params.stop_token_ids or ()):
        return "stop", 0 if params.include_stop_str_in_output else 1
    return None, 0
