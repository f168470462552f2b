"""TunedModelsPart: tuned models as a part of the application: their deletion, and their applications."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from serve_apps.api.openapi_document import ERRORS
from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.tuned_models.model_host import ModelFiles, ModelHost
from serve_apps.platform_app.tuned_models.model_record import ModelRecord
from serve_apps.platform_app.tuned_models.model_store import ModelStore
from serve_apps.platform_app.tuned_models.tables import DELETING, LIVE
from tuneyard.api.wire.platform_api.fine_tuning import ModelDeleted
from tuneyard.core.errors import PermissionDeniedError, RequestError, TuneyardError

CHECK_INTERVAL_S = 10.0
"""Seconds between two comparisons of the models with the applications that run."""

logger = logging.getLogger(__name__)


class ModelInUseError(RequestError):
    """A model cannot be deleted, because something else than its owner's key refers to it."""

    status_code = 409


class TunedModelsPart:
    """See Part."""

    name = "tuned_models"

    def __init__(
        self,
        context: PlatformContext,
        models: ModelStore,
        host: ModelHost,
        files: ModelFiles,
        jobs_from: Callable[[str], Sequence[str]],
    ) -> None:
        """`jobs_from` gives the unfinished jobs that start from the model of a name; it waits for the database."""
        self._context = context
        self._jobs_from = jobs_from
        self._models = models
        self._host = host
        self._files = files
        self._check_at = 0.0

    def add_routes(self, api: FastAPI, gate: KeyGate) -> None:  # noqa: ARG002  # see Part
        """Adds DELETE /v1/models/{model}."""

        @api.delete("/v1/models/{name:path}", response_model=ModelDeleted, responses=ERRORS)
        async def delete_model(request: Request, name: str) -> Response:
            await self.delete(self._context.owner_of(request), name)
            return JSONResponse(ModelDeleted(id=name).model_dump())

    async def delete(self, owner: str, name: str) -> None:
        """Hides the owner's model at once; the reconciler then deletes it. A job's model goes with its checkpoints.

        Raises ModelInUseError if a job goes on from it, an alias of the registry holds it or a deployment serves it;
        PermissionDeniedError for a model that is not the owner's own, and ModelNotFoundError.
        """
        run = self._context.database.run
        model = await run(self._models.find, owner, name)
        if model is None or model.name != name:
            found = await self._context.directory.find(name, owner)
            raise PermissionDeniedError(
                f"The model {found.description.model_id!r} belongs to the deployment. Only models that were fine-tuned "
                "with this API key can be deleted.",
                param="model",
                code="model_not_owned",
            )
        if reason := await self._use_of_all([model, *await run(self._models.checkpoints_of, model.id)]):
            raise ModelInUseError(
                f"The model {name!r} cannot be deleted: {reason}.", param="model", code="model_in_use"
            )
        await run(self._models.begin_deletion, owner, name)

    async def reconcile(self, now: float) -> None:
        """Deletes what was to be deleted; starts applications that are missing, and removes those of no model."""
        deleting = await self._context.database.run(self._models.all, DELETING)
        ids = {model.id for model in deleting}
        for model in deleting:
            if model.checkpoint_of not in ids:
                await self._delete(model)
        if now >= self._check_at:
            await self._check_applications()
            self._check_at = now + CHECK_INTERVAL_S

    async def close(self) -> None:
        """Nothing runs between the steps."""

    async def _delete(self, model: ModelRecord) -> None:
        """Deletes a model: first the applications, then the versions, then the files, and the records last."""
        run = self._context.database.run
        checkpoints = await run(self._models.checkpoints_of, model.id)
        if reason := await self._use_of_all([model, *checkpoints]):
            logger.warning("%s was to be deleted and stays: %s", model.id, reason)
            await run(self._models.restore, model.id)
            return
        for each in (*checkpoints, model):
            await self._host.remove(each.id)
        if model.checkpoint_of is None:
            await self._files.delete(model.id, model.folder)
        else:
            await self._files.delete_version(model.version, model.folder)
        await run(self._models.forget, model.id)

    async def _check_applications(self) -> None:
        """After a restart of the cluster no application runs; after a crash one may run that no model has."""
        run = self._context.database.run
        # First the applications: a model is registered before its application starts.
        running = await self._host.running()
        known = await run(self._models.all)
        for model in known:
            if model.state == LIVE and model.id not in running:
                try:
                    await self._host.start(model)
                except TuneyardError as e:
                    logger.warning("%s cannot be served: %s", model.id, e)
        for model_id in running - {model.id for model in known}:
            await self._host.remove(model_id)

    async def _use_of_all(self, models: Sequence[ModelRecord]) -> str:
        """What else refers to any of the models; "" if nothing does."""
        for model in models:
            if reason := await self._use_of(model):
                return reason if model is models[0] else f"its checkpoint {model.name} is used: {reason}"
        return ""

    async def _use_of(self, model: ModelRecord) -> str:
        """What else refers to the model; "" if nothing does."""
        if jobs := await self._context.database.run(self._jobs_from, model.name):
            return f"the job {jobs[0]} goes on from it and has not ended. Cancel the job or wait for its end"
        registered = model.version.partition("/")[0]
        # All versions of a job's model go with it, also those that no model of the store has.
        if aliases := await self._files.aliases(model.version if model.checkpoint_of else registered):
            return f"the registry's alias {registered}@{aliases[0]} holds it. Remove the alias first"
        for running in await self._context.directory.models():
            if running.description.version == model.version:
                return f"the deployment serves it as {running.description.model_id!r}. Remove it there first"
        return ""
