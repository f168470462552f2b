"""The models that run now, by every name that they have: id, version (`name/3`) and alias (`name@production`)."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_apps.model_calls import ModelDescription
from tuneyard.errors import ModelNotFoundError, RegistryError
from tuneyard.registry import ModelRegistry

LOOK_EVERY_S = 1.0
REPLICA = "ModelReplica"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningModel:
    """An application, what it serves, and the way to it."""

    application: str
    description: ModelDescription
    handle: DeploymentHandle[Any]


class ModelDirectory:
    """Looks at Serve's running applications, once a second at most."""

    def __init__(self) -> None:
        self._models: dict[str, RunningModel] = {}
        self._deployed_at: dict[str, float] = {}
        self._looked_at = 0.0
        self._looking = asyncio.Lock()
        self._registry: ModelRegistry | None = None

    async def models(self) -> list[RunningModel]:
        """All of them, by id."""
        await self._look()
        return [self._models[name] for name in sorted(self._models)]

    async def find(self, name: str) -> RunningModel:
        """The model of an id, a version or an alias. Raises ModelNotFoundError with what there is."""
        models = await self.models()
        for model in models:
            if name in (model.description.model_id, model.description.version):
                return model
        if "@" in name:
            version = await asyncio.to_thread(self._version_of, name)
            for model in models:
                if version is not None and model.description.version == version:
                    return model
            meaning = f" It means {version}, which is not running." if version is not None else ""
        else:
            meaning = ""
        served = ", ".join(model.description.model_id for model in models) or "nothing"
        raise ModelNotFoundError(
            f"The model {name!r} does not exist here.{meaning} Served: {served}.", param="model", code="model_not_found"
        )

    async def _look(self) -> None:
        async with self._looking:
            if time.monotonic() - self._looked_at < LOOK_EVERY_S:
                return
            status = await asyncio.to_thread(serve.status)
            running = {
                name: app.last_deployed_time_s
                for name, app in status.applications.items()
                if REPLICA in app.deployments and app.status in ("RUNNING", "DEPLOYING", "UNHEALTHY")
            }
            for name in self._models.keys() - running.keys():
                del self._models[name]
            for name, deployed_at in running.items():
                if name not in self._models or self._deployed_at.get(name) != deployed_at:
                    await self._describe(name, deployed_at)
            self._looked_at = time.monotonic()

    async def _describe(self, name: str, deployed_at: float) -> None:
        """Asks an application what it serves; one that cannot tell yet is asked again at the next look."""
        try:
            handle = serve.get_app_handle(name)
            description = await asyncio.wait_for(handle.describe.remote(), timeout=5)
        except Exception as e:  # noqa: BLE001  # Serve raises whatever went wrong on the way
            logger.warning("the application %s does not say what it serves: %s", name, e)
            return
        self._models[name] = RunningModel(name, description, handle)
        self._deployed_at[name] = deployed_at

    def _version_of(self, reference: str) -> str | None:
        """`name/version` of an alias; None when the registry does not know it."""
        try:
            self._registry = self._registry or ModelRegistry()
            found = self._registry.find(reference)
        except RegistryError:
            return None
        return f"{found.name}/{found.version}"
