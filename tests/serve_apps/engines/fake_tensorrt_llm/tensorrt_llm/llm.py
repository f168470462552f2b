"""LLM: validates a request in the caller's thread and passes it to the worker."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from tensorrt_llm.executor.result import RequestError, RequestOutput
from tensorrt_llm.llmapi import TorchLlmArgs
from tensorrt_llm.sampling_params import SamplingParams
from tensorrt_llm.worker import Worker


class LLM:
    """Behaves as BaseLLM of 1.2.1. Only the fake has `worker`, which tests use to make it fail."""

    def __init__(
        self,
        model: str,
        tokenizer: Any = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        for key in kwargs:
            if key not in TorchLlmArgs.model_fields:
                raise ValueError(f"{type(self).__name__} got invalid argument: {key}")
        self.args = TorchLlmArgs(
            model=model,
            skip_tokenizer_init=skip_tokenizer_init,
            trust_remote_code=trust_remote_code,
            tensor_parallel_size=tensor_parallel_size,
            **kwargs,
        )
        self._ids = itertools.count(2)
        self._is_shut_down = False
        self.worker = Worker(self.args)

    def generate_async(
        self,
        inputs: list[int],
        sampling_params: SamplingParams | None = None,
        lora_request: Any = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
        kv_cache_retention_config: Any = None,
        disaggregated_params: Any = None,
        trace_headers: Any = None,
        _postproc_params: Any = None,
        scheduling_params: Any = None,
        cache_salt: str | None = None,
    ) -> RequestOutput:
        """Not a coroutine: errors in the arguments are raised here."""
        if self._is_shut_down:
            raise RuntimeError("LLM is shutting down")
        params = sampling_params or SamplingParams()
        if params.end_id is None and self.args.skip_tokenizer_init:
            raise ValueError("tokenizer is required to reset end_id if it is None, or you can explicitly specify it")
        limit = self.args.max_num_tokens or 8192
        if not self.args.enable_chunked_prefill and len(inputs) > limit:
            raise RequestError(
                f"The sum of prompt length ({len(inputs) / 1}), query length (0) should not exceed max_num_tokens "
                f"({limit})"
            )
        assert isinstance(inputs[0], int)
        assert streaming, "the fake streams only"
        asyncio.get_running_loop()
        output = RequestOutput(self, next(self._ids))
        self.worker.submit(output, inputs, params)
        self.raise_background_error()
        return output

    def get_stats(self, timeout: float | None = 2) -> list[dict[str, Any]]:
        """The statistics since the last call; empty without enable_iter_perf_stats."""
        return self.worker.take_statistics() if self.args.enable_iter_perf_stats else []

    def raise_background_error(self) -> None:
        """Raises the error that ended the worker, on the next submit or step of any request, and shuts down."""
        if (error := self.worker.fatal) is not None:
            self._is_shut_down = True
            raise error

    def _check_health(self) -> bool:
        return not self._is_shut_down

    def shutdown(self) -> None:
        self._is_shut_down = True
        self.worker.stop()
