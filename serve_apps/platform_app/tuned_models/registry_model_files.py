"""RegistryModelFiles: the versions of tuned models in the model registry, and their files in the storage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tuneyard.checkpoints.registry import NEWEST, ModelRegistry
from tuneyard.storage.folder import StorageFolder


class RegistryModelFiles:
    """See ModelFiles. The registry is opened with the first call, which takes seconds."""

    def __init__(self) -> None:
        self._registry: ModelRegistry | None = None
        self._opening = asyncio.Lock()

    async def aliases(self, reference: str) -> Sequence[str]:
        """See ModelFiles."""
        name, _, version = reference.partition("/")
        registry = await self.registry()
        held = await asyncio.to_thread(registry.find_aliases, name)
        return sorted(
            alias for alias, held_version in held.items() if alias != NEWEST and version in ("", str(held_version))
        )

    async def delete(self, model_id: str, folder: str) -> None:
        """See ModelFiles."""
        registry = await self.registry()
        await asyncio.to_thread(registry.delete_model, model_id)
        await asyncio.to_thread(StorageFolder.open(folder).delete)

    async def delete_version(self, version: str, folder: str) -> None:
        """See ModelFiles."""
        name, _, number = version.partition("/")
        registry = await self.registry()
        await asyncio.to_thread(registry.delete_version, name, int(number))
        await asyncio.to_thread(StorageFolder.open(folder).delete)

    async def registry(self) -> ModelRegistry:
        """The registry of this process."""
        async with self._opening:
            if self._registry is None:
                self._registry = await asyncio.to_thread(ModelRegistry)
        return self._registry
