"""The models that run now, by every name that they have: id, version (`name/3`) and alias (`name@production`)."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_apps.api.model_calls import ModelDescription
from tuneyard.checkpoints.registry import ModelRegistry
from tuneyard.core.errors import ModelNotFoundError, RegistryError

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
    """Looks at Serve's running applications, once a second at most, beside the requests: these are answered from what
    was seen last, and only the very first waits.
    """

    def __init__(self) -> None:
        self._models: dict[str, RunningModel] = {}
        self._settled: dict[str, float] = {}
        """When an application was deployed that has told what it serves; one that is being deployed is asked again, for
        a replica of before may have answered.
        """
        self._looked_at: float | None = None
        self._looking: asyncio.Task[None] | None = None
        self._registry: ModelRegistry | None = None

    async def models(self) -> list[RunningModel]:
        """All of them, by id."""
        if self._looking is None and (self._looked_at is None or time.monotonic() - self._looked_at > LOOK_EVERY_S):
            self._looking = asyncio.create_task(self._look())
        if self._looked_at is None and self._looking is not None:
            await asyncio.shield(self._looking)
        return [self._models[name] for name in sorted(self._models)]

    async def find(self, name: str) -> RunningModel:
        """The model of an id, a version or an alias. Raises ModelNotFoundError with what there is."""
        models = await self.models()
        for model in models:
            if name in (model.description.model_id, model.description.version):
                return model
        meaning = ""
        if "@" in name:
            version = await asyncio.to_thread(self._version_of, name)
            for model in models:
                if version is not None and model.description.version == version:
                    return model
            meaning = f" It means {version}, which is not running." if version is not None else ""
        served = ", ".join(model.description.model_id for model in models) or "nothing"
        raise ModelNotFoundError(
            f"The model {name!r} does not exist here.{meaning} Served: {served}.", param="model", code="model_not_found"
        )

    async def _look(self) -> None:
        """What goes wrong on the way leaves the last view as it is."""
        try:
            status = await asyncio.to_thread(serve.status)
            apps = {name: app for name, app in status.applications.items() if REPLICA in app.deployments}
            for name in self._models.keys() - apps.keys():
                del self._models[name]
            asked = [
                self._describe(name, app.last_deployed_time_s, is_settled=app.status == "RUNNING")
                for name, app in apps.items()
                if self._settled.get(name) != app.last_deployed_time_s
                and (app.status == "RUNNING" or name in self._models)
            ]
            await asyncio.gather(*asked)
        except Exception as e:  # noqa: BLE001  # a controller that restarts, say
            logger.warning("Serve does not say what runs: %s", e)
        finally:
            self._looked_at = time.monotonic()
            self._looking = None

    async def _describe(self, name: str, deployed_at: float, *, is_settled: bool) -> None:
        """Asks an application what it serves; one that cannot tell now is asked again at the next look."""
        try:
            handle = serve.get_app_handle(name)
            description = await asyncio.wait_for(handle.describe.remote(), timeout=5)
        except Exception as e:  # noqa: BLE001  # Serve raises whatever went wrong on the way
            logger.warning("the application %s does not say what it serves: %s", name, e)
            return
        self._models[name] = RunningModel(name, description, handle)
        if is_settled:
            self._settled[name] = deployed_at

    def _version_of(self, reference: str) -> str | None:
        """`name/version` of an alias; None when the registry does not know it."""
        try:
            self._registry = self._registry or ModelRegistry()
            found = self._registry.find(reference)
        except RegistryError:
            return None
        return f"{found.name}/{found.version}"
