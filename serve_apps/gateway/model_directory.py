"""ModelDirectory: the running models, found by id, version (`name/3`) or alias (`name@production`)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence

from ray import serve

from serve_apps.api.model_calls import MODEL_DEPLOYMENT
from serve_apps.gateway.alias_cache import MAX_ALIASES, AliasCache, RegistryDownError
from serve_apps.gateway.owned_models import OWNED_APPLICATION_PREFIX, NoOwnedModels, OwnedModels
from serve_apps.gateway.running_model import RunningModel
from tuneyard.core.errors import ModelNotFoundError

REFRESH_INTERVAL_S = 1.0
DESCRIBE_TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


class ModelDirectory:
    """Reads Serve's running applications, at most once per REFRESH_INTERVAL_S.

    It reads them in the background: requests are answered from the last reading, and only the first request waits.
    `owned` has the models of single owners, which are not among `models`.
    """

    def __init__(self, aliases: AliasCache | None = None, owned: OwnedModels | None = None) -> None:
        self._models: dict[str, RunningModel] = {}
        """By application name."""
        self._described_deployments: dict[str, float] = {}
        """By application name: the deployment time for which the description is final. While an application is being
        deployed its description may come from a replica of the version before, so it is read again.
        """
        self._refreshed_at: float | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._aliases = aliases or AliasCache()
        self._owned: OwnedModels = owned or NoOwnedModels()
        self._served_versions: OrderedDict[str, str] = OrderedDict()
        """By alias: the version with which it was answered last."""

    async def models(self) -> list[RunningModel]:
        """All running models that belong to no single owner, sorted by application name."""
        is_due = self._refreshed_at is None or time.monotonic() - self._refreshed_at > REFRESH_INTERVAL_S
        if self._refreshing is None and is_due:
            self._refreshing = asyncio.create_task(self._refresh())
        if self._refreshed_at is None and self._refreshing is not None:
            await asyncio.shield(self._refreshing)
        return [self._models[name] for name in sorted(self._models)]

    async def models_for(self, owner: str) -> list[RunningModel]:
        """All models that `owner` can see, apart from the `models` that its key names: its own ones come last."""
        return [*await self.models(), *await self._owned.of_owner(owner)]

    async def find(self, name: str, owner: str = "") -> RunningModel:
        """The running model of an id, version or alias, which `owner` can see.

        Raises ModelNotFoundError, with the models that run and belong to no single owner.
        """
        models = await self.models()
        for model in models:
            if name in (model.description.model_id, model.description.version):
                return model
        if (own := await self._owned.find(owner, name)) is not None:
            return own
        explanation = ""
        if "@" in name:
            version, found = await self._resolve(name, models)
            if found is None and version is not None:
                found = await self._owned.find(owner, version)
            if found is not None:
                return found
            if version is not None and not version.startswith(OWNED_APPLICATION_PREFIX):
                explanation = f" It refers to {version}, which is not running."
        served = ", ".join(model.description.model_id for model in models) or "nothing"
        raise ModelNotFoundError(
            f"The model {name!r} does not exist here.{explanation} Served: {served}.",
            param="model",
            code="model_not_found",
        )

    async def _resolve(self, alias: str, models: Sequence[RunningModel]) -> tuple[str | None, RunningModel | None]:
        """The version that the registry has for an alias, None if it has none; and the running model to answer with.

        An alias means what is deployed: a version that was registered a moment ago does not run yet. So if the
        registry's version does not run, the model that was deployed by this alias answers; or else the version that
        this alias was answered with before. Raises RegistryDownError if the alias is unknown for want of a registry.
        """
        running = {model.description.version: model for model in models}
        deployed = next((model for model in models if model.description.reference == alias), None)
        try:
            version = await self._aliases.version_of(alias)
        except RegistryDownError:
            if deployed is None:
                raise
            return None, deployed
        if version is None:  # the alias was deleted, or never set
            self._served_versions.pop(alias, None)
            return None, deployed
        found = running.get(version) or deployed or running.get(self._served_versions.get(alias, ""))
        if found is not None:
            self._served_versions[alias] = found.description.version
            self._served_versions.move_to_end(alias)
            if len(self._served_versions) > MAX_ALIASES:
                self._served_versions.popitem(last=False)
        return version, found

    async def _refresh(self) -> None:
        """Reads Serve's applications. On an error the models stay as they were."""
        try:
            status = await asyncio.to_thread(serve.status)
            apps = {
                name: app
                for name, app in status.applications.items()
                if MODEL_DEPLOYMENT in app.deployments and not name.startswith(OWNED_APPLICATION_PREFIX)
            }
            for name in self._models.keys() - apps.keys():
                del self._models[name]
            descriptions = [
                self._describe(name, app.last_deployed_time_s, is_running=app.status == "RUNNING")
                for name, app in apps.items()
                if self._described_deployments.get(name) != app.last_deployed_time_s
                and (app.status == "RUNNING" or name in self._models)
            ]
            await asyncio.gather(*descriptions)
        except Exception as e:  # noqa: BLE001  # for example while Serve's controller restarts
            logger.warning("Serve's status is not available: %s", e)
        finally:
            self._refreshed_at = time.monotonic()
            self._refreshing = None

    async def _describe(self, name: str, deployed_at: float, *, is_running: bool) -> None:
        """Reads what an application serves. If it does not answer, the next refresh tries again."""
        try:
            handle = serve.get_app_handle(name)
            description = await asyncio.wait_for(handle.describe.remote(), timeout=DESCRIBE_TIMEOUT_S)
        except Exception as e:  # noqa: BLE001  # Serve raises whatever failed in the replica or on the way
            logger.warning("the application %s does not answer what it serves: %s", name, e)
            return
        self._models[name] = RunningModel(name, description, handle)
        if is_running:
            self._described_deployments[name] = deployed_at
