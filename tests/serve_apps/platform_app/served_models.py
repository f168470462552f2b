"""A gateway's model directory without Ray: its models are in this process, behind handles like Ray Serve's."""

from __future__ import annotations

import asyncio
import copy
import warnings
from collections.abc import AsyncGenerator, Iterable
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray Serve's own, when it is imported
    from ray.serve.exceptions import RequestCancelledError

from serve_apps.api.model_calls import ModelCalls, ModelDescription
from serve_apps.engine_wrappers.idle_capacity import IdleCapacityEngine
from serve_apps.engine_wrappers.token_charge import ChargedEngine
from serve_apps.gateway.alias_cache import AliasCache
from serve_apps.gateway.model_directory import ModelDirectory
from serve_apps.gateway.running_model import RunningModel
from serve_apps.generation.served_model import ServedModel


class ServedModels(ModelDirectory):
    """The directory of some models, each of which answers live requests and, on idle capacity, background ones."""

    def __init__(self, models: Iterable[ServedModel], capacity: int = 64) -> None:
        super().__init__(AliasCache(lambda _: None))
        self.served: list[RunningModel] = []
        for model in models:
            model.engine = IdleCapacityEngine(ChargedEngine(model.engine), capacity)
            description = ModelDescription(model.model_id, f"{model.model_id}/1", model.max_model_len, 0, {})
            self.served.append(RunningModel(model.model_id, description, Handle(ModelCalls(model))))  # type: ignore[arg-type]

    async def models(self) -> list[RunningModel]:
        """See ModelDirectory."""
        return self.served


class Handle:
    """A deployment handle whose only replica is `calls`."""

    def __init__(self, calls: ModelCalls) -> None:
        self._calls = calls

    def options(self, **_: Any) -> Handle:
        """The same handle."""
        return self

    @property
    def complete(self) -> RemoteMethod:
        """See ModelReplica.complete."""
        return RemoteMethod(self._calls.complete)

    @property
    def stream(self) -> RemoteMethod:
        """See ModelReplica.stream."""
        return RemoteMethod(self._calls.stream)


class RemoteMethod:
    """A method of a handle."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def remote(self, *arguments: Any) -> RemoteItems:
        """Calls the method with copies of the arguments."""
        return RemoteItems(self._method(*copy.deepcopy(arguments)))


class RemoteItems:
    """What Ray Serve returns for a streaming call. `cancel` aborts it; reading it then raises RequestCancelledError."""

    def __init__(self, items: AsyncGenerator[Any, None]) -> None:
        self._items = items
        self._reading: asyncio.Future[Any] | None = None
        self._is_cancelled = False

    def cancel(self) -> None:
        """Aborts the call."""
        self._is_cancelled = True
        if self._reading is not None:
            self._reading.cancel()

    async def __anext__(self) -> Any:
        if not self._is_cancelled:
            self._reading = asyncio.ensure_future(anext(self._items))
            try:
                return await self._reading
            except asyncio.CancelledError:
                if not self._is_cancelled:
                    raise
        await self._items.aclose()
        raise RequestCancelledError("r")
