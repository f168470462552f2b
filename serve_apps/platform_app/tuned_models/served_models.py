"""ServedModels: the tuned models of each owner, for a gateway. See gateway.owned_models.OwnedModels."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from serve_apps.api.model_calls import MODEL_DEPLOYMENT, ModelDescription
from serve_apps.gateway.running_model import RunningModel
from serve_apps.platform_app.tuned_models.model_record import ModelRecord
from serve_apps.platform_app.tuned_models.model_store import ModelStore
from tuneyard.core.errors import OverloadedError

CHECKED_S = 10.0
"""Seconds for which an application that was there is believed to be there."""

MAX_HANDLES = 1024


class ServedModels:
    """Reads the store with every call, so a model is there from the moment in which its job is said to have succeeded.

    `organization` is OpenAI's `owned_by` of the models. `check_application` raises RayServeException for an application
    that does not run; `open_handle` gives its handle in any case.
    """

    def __init__(
        self,
        store: ModelStore,
        organization: str,
        check_application: Callable[[str], object] = serve.get_app_handle,
        open_handle: Callable[[str], DeploymentHandle[Any]] | None = None,
    ) -> None:
        self._store = store
        self._organization = organization
        self._check_application = check_application
        self._open_handle = open_handle or _unchecked_handle
        self._handles: OrderedDict[str, tuple[float, DeploymentHandle[Any]]] = OrderedDict()
        """By application: when it was seen, and its handle."""

    async def find(self, owner: str, name: str) -> RunningModel | None:
        """See OwnedModels. Raises OverloadedError while the model's application is being started again."""
        model = await self._store.database.run(self._store.find, owner, name)
        return self._running(model, await self._handle(model)) if model is not None else None

    async def of_owner(self, owner: str) -> list[RunningModel]:
        """See OwnedModels."""
        models = await self._store.database.run(self._store.of_owner, owner)
        return [self._running(model, self._open_handle(model.id)) for model in models]

    def _running(self, model: ModelRecord, handle: DeploymentHandle[Any]) -> RunningModel:
        description = ModelDescription(
            model.name, model.version, model.max_model_len, int(model.created_at), model.headers, model.version
        )
        return RunningModel(model.id, description, handle, model.owner, self._organization)

    async def _handle(self, model: ModelRecord) -> DeploymentHandle[Any]:
        known = self._handles.get(model.id)
        if known is not None and time.monotonic() - known[0] < CHECKED_S:
            return known[1]
        try:
            await asyncio.to_thread(self._check_application, model.id)
        except RayServeException as e:
            self._handles.pop(model.id, None)
            raise OverloadedError(
                f"The model {model.name} is being started again. Retry after {OverloadedError.retry_after_s} s.",
                param="model",
                code="model_starting",
            ) from e
        # A new handle would not know the replicas yet.
        handle = known[1] if known is not None else self._open_handle(model.id)
        self._handles[model.id] = (time.monotonic(), handle)
        self._handles.move_to_end(model.id)
        while len(self._handles) > MAX_HANDLES:
            self._handles.popitem(last=False)
        return handle


def _unchecked_handle(application: str) -> DeploymentHandle[Any]:
    """The handle of a model's application, which need not exist yet. Asks nothing."""
    handle: DeploymentHandle[Any] = serve.get_deployment_handle(MODEL_DEPLOYMENT, application, _check_exists=False)
    return handle
