"""LLM on Ray actors, as callers see it: it does not answer before setup_async."""

from __future__ import annotations

from typing import Any

from tensorrt_llm.llm import LLM


class AsyncLLM(LLM):
    """Keeps its placement in an attribute, for tests."""

    def __init__(
        self,
        placement_groups: list[Any] | None = None,
        placement_bundle_indices: list[list[int]] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self.placement = (placement_groups, placement_bundle_indices)
        super().__init__(*args, **kwargs)
        self.worker.paused = True

    async def setup_async(self) -> AsyncLLM:
        """Starts the worker."""
        self.worker.paused = False
        return self
