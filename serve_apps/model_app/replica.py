"""ModelReplica: loads a checkpoint into an engine and answers the OpenAI API over HTTP and over Serve handles.

The replica is the HTTP ingress itself. With a separate ingress deployment, tokens arrived 5 to 10 times later.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import FastAPI
from prometheus_client.metrics_core import Metric
from ray import serve

from serve_apps.api.call_origin import UNKNOWN_ORIGIN, CallOrigin
from serve_apps.api.model_calls import CallAnswer, CallEvents, ModelCalls, ModelDescription
from serve_apps.api.responses.store import ResponseStore
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engine_wrappers.idle_capacity import IdleCapacityEngine
from serve_apps.engine_wrappers.measured_engine import MeasuredEngine
from serve_apps.engine_wrappers.time_limit import TimeLimitedEngine
from serve_apps.engine_wrappers.token_charge import ChargedEngine
from serve_apps.engine_wrappers.traced_engine import TracedEngine
from serve_apps.engines.engine import InferenceEngine
from serve_apps.engines.engine_factory import create_engine
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.access import Access
from serve_apps.metrics.replica_metrics import SharedMetrics
from serve_apps.model_app.lineage import lineage_headers
from serve_apps.processes.garbage_collection import freeze_loaded_objects
from serve_apps.tracing.tracing import NO_TRACING, open_tracing
from tuneyard.api.wire.chat_request import RenderRequest
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.safety.hub_access import disable_hub_access
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.core.home import expand_path
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity import check_parity
from tuneyard.harmony.parity_rows import ParityRow, parse_parity_rows
from tuneyard.harmony.settings import CodecSettings
from tuneyard.storage.audit_log import AuditLog


class ModelReplica:
    """The deployment class: plain Python, bound to Ray Serve in build_app."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it; the types know no async constructor
        self, config: ModelAppConfig, location: str, version: str, codec_settings: CodecSettings, access: Access
    ) -> None:
        self._access = access
        self._version = version
        disable_hub_access()
        checkpoint = await asyncio.to_thread(local_folder, location)
        manifest = read_manifest(checkpoint)
        context = serve.get_replica_context()
        replica = context.replica_id.unique_id
        engine: InferenceEngine = ChargedEngine(create_engine(config.engine, checkpoint))
        if config.replicas.answer_timeout_s is not None:
            engine = TimeLimitedEngine(engine, config.replicas.answer_timeout_s)
        self._tracing = open_tracing(access.tracing, replica)
        if self._tracing is not NO_TRACING:
            engine = TracedEngine(engine, config.model_id)
        # Everybody can read metrics; the name of a tuned model holds words of its owner, its version's name does not.
        label = version.partition("/")[0] if config.model_id.startswith("ft:") else config.model_id
        self._engine = MeasuredEngine(engine, label, version, replica)
        self._gate = access.open_gate(replica)
        self._metrics = SharedMetrics(context.app_name, replica, self._collect_metrics)
        self._lineage = lineage_headers(manifest, version)
        codec = HarmonyCodec.from_checkpoint(checkpoint, codec_settings)
        capacity = min(config.replicas.max_ongoing_requests, config.engine.largest_batch or sys.maxsize)
        answering = IdleCapacityEngine(self._engine, capacity)
        self._model = ServedModel(answering, codec, config.model_id, manifest.digest, access.http.limits)
        # Checked in every replica, because each may run with other library versions.
        check_parity(parse_parity_rows(manifest.parity), self._render, codec, config.model_id)
        # Started here and not in the ASGI lifespan: Serve reports the constructor's errors, a lifespan's only in logs.
        await self._engine.start()
        self._model.warm_up()
        self._stored_responses = StoredResponses(ResponseStore.open(access.responses, access.database))
        await self._stored_responses.prepare()
        self._calls = ModelCalls(self._model, self._stored_responses, access.responses.ignored_tools, self._tracing)
        self._reference = expand_path(config.checkpoint)
        freeze_loaded_objects()

    def _render(self, row: ParityRow) -> Sequence[int]:
        """The prompt of a parity row, by the code that answers requests."""
        request = RenderRequest.model_validate(row.request_body(self._model.model_id))
        chat = tuple(message.to_chat_message() for message in request.messages)
        encoder = self._model.create_encoder()
        return encoder.render(chat, request.tools, request.reasoning_effort, request.today)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve after the constructor."""
        options = ApiOptions(
            admin_key=self._access.admin_key,
            audit_log=AuditLog(self._access.audit_file) if self._access.audit_file is not None else None,
            gate=self._gate,
            http=self._access.http,
            stored_responses=self._stored_responses,
            ignored_tools=self._access.responses.ignored_tools,
            headers=self._lineage,
            collect_metrics=self._metrics.collect_all,
            lifespan=self._lifespan,
            sets_request_ids=False,
            tracing=self._tracing,
        )
        return create_api(self._model, options)

    async def _collect_metrics(self) -> list[Metric]:
        return [*await self._engine.metrics(), *self._gate.collect()]

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with self._metrics.publishing():
            yield
        self._model.prompts.close()
        self._stored_responses.close()
        await asyncio.to_thread(self._tracing.close)
        await self._engine.shutdown()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Ray Serve reads this from every replica, for custom autoscaling policies."""
        stats = self._engine.stats()
        return {
            "requests": float(stats.requests),
            "waiting_requests": float(self._engine.waiting_requests),
            "kv_cache_usage": stats.kv_cache_usage,
        }

    async def describe(self) -> ModelDescription:
        """What this replica serves; called by the gateway."""
        card = self._model.card()
        return ModelDescription(
            card.id, self._version, card.max_model_len, card.created, self._lineage, self._reference
        )

    async def complete(
        self, path: str, body: Any, owner: str = "", origin: CallOrigin = UNKNOWN_ORIGIN
    ) -> AsyncIterator[CallAnswer | CallEvents]:
        """See ModelCalls.complete; called by the gateway."""
        async with contextlib.aclosing(self._calls.complete(path, body, owner, origin)) as items:
            async for item in items:
                yield item

    async def stream(
        self, path: str, body: Any, owner: str = "", origin: CallOrigin = UNKNOWN_ORIGIN
    ) -> AsyncIterator[CallAnswer | CallEvents]:
        """See ModelCalls.stream; called by the gateway."""
        async with contextlib.aclosing(self._calls.stream(path, body, owner, origin)) as items:
            async for item in items:
                yield item

    async def check_health(self) -> None:
        """Called by Ray Serve, which restarts the replica if this raises."""
        await self._engine.check_health()
