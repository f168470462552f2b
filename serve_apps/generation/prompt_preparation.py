"""PromptPreparation: runs prompt jobs outside of the event loop, unless they take only a moment."""

from __future__ import annotations

from array import array
from typing import Any

from serve_apps.generation.prompt_encoder import PromptEncoder, PromptJob
from serve_apps.processes.worker_pool import WorkerLimitError, WorkerPool
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import RequestError

INLINE_COST = 2048
"""Jobs up to this cost run at once, in about 0.01 s at most.

Harmony's time grows with the square of a text without spaces. Measured with the tests' tiny tokenizer: to render a chat
message of 8,000 characters of Thai took 0.159 s of CPU time, one of 2,048 characters 0.012 s.
"""

CPU_S = 20.0
"""Seconds of CPU time of one job. What the limits of text allow takes a tenth of it."""


class PromptPreparation:
    """Prepares the prompts of one model. Its worker process starts with the first long prompt, and loads the codec.

    A process, because openai-harmony and the decoding of tokens hold the interpreter lock: in a thread of this process,
    a prompt of a megabyte stops the event loop for half a second.
    """

    def __init__(self, encoder: PromptEncoder, limits: HttpLimits, max_model_len: int) -> None:
        self._encoder = encoder
        codec = encoder.codec
        self._workers = WorkerPool(
            "serve_apps.generation.prompt_encoder:create_job_runner",
            (codec.checkpoint, codec.settings, max_model_len, limits),
        )

    async def run(self, job: PromptJob) -> Any:
        """The job's result.

        Raises what the encoder raises, RequestError for a job that takes too long, and EngineError if the worker
        process cannot start or was ended from outside.
        """
        if job.cost <= INLINE_COST:
            return job.run(self._encoder)
        try:
            result = await self._workers.call(job, CPU_S)
        except WorkerLimitError as e:
            raise RequestError(f"The request's text cannot be encoded: {e} Shorten it.", code="limit_exceeded") from e
        return result.tolist() if isinstance(result, array) else result

    def close(self) -> None:
        """Ends the worker process."""
        self._workers.close()
