"""One model as one Ray Serve application: the replica that holds the engine is the HTTP ingress.

One hop: a token lags 5 to 10 times less than through a second deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig

from serve_apps.api.chat_service import ChatService
from serve_apps.api.model_calls import Answered, Events, ModelCalls, ModelDescription
from serve_apps.api.routes import ApiOptions, create_api
from serve_apps.engines.engine_factory import create_engine
from serve_apps.http_front.key_gate import KeyGate
from serve_apps.metrics.measured_engine import MeasuredEngine
from serve_apps.metrics.replica_metrics import SharedMetrics
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.requests import RenderRequest
from tuneyard.checkpoints.manifest import CheckpointManifest, read_manifest
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.core.errors import OverloadedError
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec
from tuneyard.harmony.parity import ParityRow, check_parity, parse_parity_rows

BACKPRESSURE = BackpressureConfig(status_code=OverloadedError.status_code, retry_after_s=OverloadedError.retry_after_s)
"""What Serve answers when a queue is full, before any code of ours is asked."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a replica. `key_file`: that of the API keys; None: nobody is asked for one."""

    admin_key: str | None = None
    key_file: Path | None = None


class ModelReplica:
    """A replica: loads the checkpoint, owns the engine, answers the OpenAI API. Plain until build_app binds it."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it; the types know no async constructor
        self, config: ModelAppConfig, location: str, version: str, codec_settings: CodecSettings, access: Access
    ) -> None:
        self._access = access
        self._model_id = config.model_id
        checkpoint = await asyncio.to_thread(local_folder, location)
        manifest = read_manifest(checkpoint)
        self._version = version
        engine = create_engine(config.engine, checkpoint)
        context = serve.get_replica_context()
        replica = context.replica_id.unique_id
        self._engine = MeasuredEngine(
            engine, config.model_id, self._version, config.replicas.answer_timeout_s, replica=replica
        )
        self._metrics = SharedMetrics(context.app_name, replica, self._engine.metrics)
        self._lineage = lineage_headers(manifest, version)
        codec = HarmonyCodec.from_checkpoint(checkpoint, codec_settings)
        self._service = ChatService(self._engine, codec, config.model_id, manifest.digest)
        # In every replica, where it runs, before it takes a request.
        check_parity(parse_parity_rows(manifest.parity), self._render, codec, config.model_id)
        # Here and not in the ASGI lifespan: Serve shows what a constructor raises, a lifespan's error stays in a log.
        await self._engine.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        options = ApiOptions(
            admin_key=self._access.admin_key,
            gate=KeyGate(KeyStore(self._access.key_file) if self._access.key_file is not None else None),
            headers=self._lineage,
            metrics=self._metrics.of_all,
            lifespan=self._lifespan,
            gives_request_ids=False,
        )
        return create_api(lambda: self._service, options)

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with self._metrics.told():
            yield
        await self._engine.shutdown()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """For an autoscaling policy of one's own: Ray Serve reads it from every replica."""
        stats = self._engine.stats()
        return {
            "requests": float(stats.requests),
            "waiting_requests": float(self._engine.waiting),
            "kv_cache_usage": stats.kv_cache_usage,
        }

    async def describe(self) -> ModelDescription:
        """What the gateway must know."""
        (card,) = self._service.models().data
        return ModelDescription(card.id, self._version, card.max_model_len, card.created, self._lineage)

    async def whole(self, path: str, body: Any) -> AsyncIterator[Answered | Events]:
        """See ModelCalls."""
        async with contextlib.aclosing(ModelCalls(self._service).whole(path, body)) as items:  # type: ignore[type-var]
            async for item in items:
                yield item

    async def streamed(self, path: str, body: Any) -> AsyncIterator[Answered | Events]:
        """See ModelCalls."""
        async with contextlib.aclosing(ModelCalls(self._service).streamed(path, body)) as items:  # type: ignore[type-var]
            async for item in items:
                yield item

    def _render(self, row: ParityRow) -> Sequence[int]:
        request = RenderRequest.model_validate(row.request_body(self._model_id))
        return self._service.render(request).prompt_token_ids

    async def check_health(self) -> None:
        """Ray Serve restarts the replica when this raises."""
        await self._engine.check_health()


def lineage_headers(manifest: CheckpointManifest, version: str) -> dict[str, str]:
    """What leads from an answer back to its model, the run that made it and its data."""
    found = {
        "X-Tuneyard-Model-Version": version,
        "X-Tuneyard-Weights": manifest.digest[:16],
        "X-Tuneyard-Run": manifest.run_id,
        "X-Tuneyard-Dataset": manifest.dataset.fingerprint[:16] if manifest.dataset else None,
    }
    return {name: value for name, value in found.items() if value}


def _placement(config: ModelAppConfig) -> dict[str, Any]:
    """What a replica takes of the cluster. With Ray as orchestrator its GPUs are bundles of a placement group, for the
    actors that TensorRT-LLM starts; the replica itself sits in the first bundle, without a GPU.
    """
    engine = config.engine.tensorrt_llm
    options: dict[str, Any] = {"num_cpus": config.replicas.num_cpus, "num_gpus": config.gpus_per_replica}
    if config.replicas.resources:
        options["resources"] = config.replicas.resources
    if engine is None:
        return {"ray_actor_options": options}
    if engine.env:
        options["runtime_env"] = {"env_vars": engine.env}
    if engine.orchestrator == "mpi":
        return {"ray_actor_options": options}
    bundles = [
        {"CPU": config.replicas.num_cpus} | config.replicas.resources,
        *({"GPU": 1.0, "CPU": 1.0} for _ in range(config.engine.gpus)),
    ]
    options["num_gpus"] = 0
    return {
        "ray_actor_options": options,
        "placement_group_bundles": bundles,
        "placement_group_strategy": "PACK",
    }


def build_app(
    config: ModelAppConfig, checkpoint: str, version: str, codec_settings: CodecSettings, access: Access | None = None
) -> Application:
    """The Serve application of one model; deploys nothing yet. By default nobody is asked for a key."""
    replicas = config.replicas
    deployment = serve.deployment(serve.ingress()(ModelReplica)).options(
        name="ModelReplica",
        num_replicas=replicas.num_replicas,
        autoscaling_config=replicas.autoscaling(),
        max_ongoing_requests=replicas.max_ongoing_requests,
        max_queued_requests=replicas.max_queued_requests,
        backpressure_config=BACKPRESSURE,
        graceful_shutdown_timeout_s=replicas.graceful_shutdown_timeout_s,
        health_check_period_s=replicas.health_check_period_s,
        health_check_timeout_s=replicas.health_check_timeout_s,
        **_placement(config),
    )
    return deployment.bind(config, checkpoint, version, codec_settings, access or Access())
