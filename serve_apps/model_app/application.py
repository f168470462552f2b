"""build_app: the Ray Serve application of one model."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from serve_apps.api.model_calls import MODEL_DEPLOYMENT
from serve_apps.http_front.access import Access
from serve_apps.model_app.replica import ModelReplica
from serve_apps.request_queue import replica_queue_options
from tuneyard.checkpoints.safety.hub_access import OFFLINE
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.harmony.settings import CodecSettings


def build_app(
    config: ModelAppConfig, checkpoint: str, version: str, codec_settings: CodecSettings, access: Access | None = None
) -> Application:
    """The application of one model, not deployed yet. By default requests need no API key.

    `checkpoint` is a location that every node can read, `version` its `name/version`.
    """
    replicas = config.replicas
    deployment = serve.deployment(serve.ingress()(ModelReplica)).options(
        name=MODEL_DEPLOYMENT,
        num_replicas=replicas.num_replicas,
        autoscaling_config=replicas.autoscaling(),
        graceful_shutdown_timeout_s=replicas.graceful_shutdown_timeout_s,
        health_check_period_s=replicas.health_check_period_s,
        health_check_timeout_s=replicas.health_check_timeout_s,
        **replica_queue_options(replicas.max_ongoing_requests, replicas.max_queued_requests),
        **_placement_options(config),
    )
    return deployment.bind(config, checkpoint, version, codec_settings, access or Access())


def _placement_options(config: ModelAppConfig) -> dict[str, Any]:
    """Options for the resources of a replica.

    With Ray as TensorRT-LLM's orchestrator, the GPUs are bundles of a placement group, for the actors that
    TensorRT-LLM starts; the replica itself runs in the first bundle, without a GPU.
    """
    engine = config.engine.tensorrt_llm
    actor_options: dict[str, Any] = {"num_cpus": config.replicas.num_cpus, "num_gpus": config.gpus_per_replica}
    if config.replicas.resources:
        actor_options["resources"] = config.replicas.resources
    if engine is None:
        return {"ray_actor_options": actor_options}
    # TensorRT-LLM's own processes and actors inherit the replica's runtime environment.
    actor_options["runtime_env"] = {"env_vars": {**OFFLINE, **engine.env}}
    if engine.orchestrator == "mpi":
        return {"ray_actor_options": actor_options}
    actor_options["num_gpus"] = 0
    bundles = [
        {"CPU": config.replicas.num_cpus} | config.replicas.resources,
        *({"GPU": 1.0, "CPU": 1.0} for _ in range(config.engine.gpus)),
    ]
    return {
        "ray_actor_options": actor_options,
        "placement_group_bundles": bundles,
        "placement_group_strategy": "PACK",
    }
