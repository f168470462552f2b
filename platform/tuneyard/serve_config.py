"""ServeConfig: which models are served, where, and by which engine."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tuneyard.config import StrictConfig
from tuneyard.harmony import CodecSettings


class EngineConfig(StrictConfig):
    """What generates tokens, inside a replica."""

    engine: Literal["transformers", "scripted"] = "transformers"
    """`transformers`: its continuous batching, on a CPU or a GPU. `scripted`: canned replies, for tests and UI work."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the transformers engine; float32 is the faster one on most CPUs."""

    threads: int | None = Field(default=1, ge=1)
    """Torch threads of a replica on a CPU; null leaves torch's default."""

    kv_cache_tokens: int = Field(default=8192, ge=64)
    """Tokens that the KV cache of a replica holds, over all running requests. Bounds its memory, and the context."""

    max_batch_tokens: int = Field(default=512, ge=16)
    """Tokens that one forward pass takes: longer prompts are prefilled in parts."""

    max_concurrent_requests: int = Field(default=32, ge=1)
    """Requests in one forward pass; more wait in the engine."""

    script: tuple[tuple[int, ...], ...] = ()
    """Replies of the scripted engine as token ids, in turn."""

    token_interval_s: float = Field(default=0.0, ge=0)
    """Seconds between two tokens of the scripted engine."""


class HttpConfig(StrictConfig):
    """Where the API listens."""

    host: Literal["127.0.0.1", "localhost"] = "127.0.0.1"
    """Loopback only: there are no API keys yet, so the API never opens to a network."""

    port: int = Field(default=8000, ge=1, le=65535)


class ReplicaConfig(StrictConfig):
    """Replicas of one model and how many, in Ray Serve's own field names."""

    num_replicas: int | None = Field(default=1, ge=0)
    """Fixed number; null with `autoscaling_config`."""

    autoscaling_config: dict[str, Any] | None = None
    """Ray Serve's AutoscalingConfig, passed through: min_replicas, max_replicas, target_ongoing_requests, …"""

    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    max_ongoing_requests: int = Field(default=64, ge=1)
    """Requests that a replica takes at a time; the rest waits in Serve's queue."""

    max_queued_requests: int = Field(default=256, ge=-1)
    """Requests that may wait; more are answered 503."""

    graceful_shutdown_timeout_s: float = Field(default=120.0, ge=0)
    """How long a leaving replica may finish its streams: longer than the longest stream."""

    health_check_period_s: float = Field(default=5.0, gt=0)
    health_check_timeout_s: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.num_replicas is None) == (self.autoscaling_config is None):
            raise ValueError(
                f"give either num_replicas (found {self.num_replicas}) or autoscaling_config "
                f"(found {self.autoscaling_config}), with num_replicas: null"
            )
        return self


class ModelAppConfig(StrictConfig):
    """One served model: one Ray Serve application."""

    model_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")
    """What clients send as `model`."""

    checkpoint: str
    """`name@alias` or `name/version` in the registry, or a checkpoint folder (`$TUNEYARD_HOME` expands)."""

    route_prefix: str = Field(default="/", pattern=r"^/([A-Za-z0-9._-]+)?$")
    """Path before /v1; each model app has its own."""

    engine: EngineConfig = EngineConfig()
    codec: CodecSettings | None = None
    """For a base checkpoint. A finetuned one brings its codec in the manifest, and no other is accepted."""

    replicas: ReplicaConfig = ReplicaConfig()


class ServeConfig(StrictConfig):
    """A deployment: an HTTP address and the models behind it."""

    http: HttpConfig = HttpConfig()
    models: tuple[ModelAppConfig, ...] = Field(min_length=1)
    wait_for_nodes: bool = False
    """Wait when the cluster's nodes cannot hold the replicas now: its autoscaler adds some. false: refuse at once."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name in ("model_id", "route_prefix"):
            values = [getattr(model, name) for model in self.models]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"models: {name} {twice[0]!r} is used more than once")
        return self
