"""The LLM over Ray's actors, as its users see it: nothing answers before setup_async."""

from __future__ import annotations

from typing import Any

from tensorrt_llm.llm import LLM


class AsyncLLM(LLM):
    """The placement stays readable for tests."""

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
        """Starts to answer."""
        self.worker.paused = False
        return self
