"""ServeConfig: which models are served, where, and by which engine."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tuneyard.configs.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.strict_config import StrictConfig
from tuneyard.harmony.codec import CodecSettings


class EngineConfig(StrictConfig):
    """What generates tokens, inside a replica."""

    engine: Literal["transformers", "tensorrt_llm", "scripted"] = "transformers"
    """`transformers`: its continuous batching, on a CPU or a GPU. `tensorrt_llm`: NVIDIA's, in the serve image.
    `scripted`: canned replies, for tests and UI work."""

    tensorrt_llm: TensorRTLLMConfig | None = None
    """The TensorRT-LLM engine's fields; the fields below are the other engines'."""

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

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if (self.engine == "tensorrt_llm") != (self.tensorrt_llm is not None):
            raise ValueError(f"the section tensorrt_llm goes with engine: tensorrt_llm, found engine: {self.engine}")
        others = sorted(self.model_fields_set - {"engine", "tensorrt_llm"})
        if self.engine == "tensorrt_llm" and others:
            raise ValueError(f"{others[0]} is no field of the TensorRT-LLM engine; its own stand under tensorrt_llm")
        return self

    @property
    def gpus(self) -> int:
        """GPUs that one replica's engine needs; the other engines take what the replica has."""
        return self.tensorrt_llm.tensor_parallel_size if self.tensorrt_llm is not None else 0


class HttpConfig(StrictConfig):
    """Where the API listens."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback asks for API keys: without one, nothing is started."""

    require_keys: bool | None = None
    """Ask every request for an API key (`tuneyard keys create`). null: unless it listens on loopback."""

    port: int = Field(default=8000, ge=1, le=65535)

    proxy: Literal["serve", "haproxy"] = "serve"
    """What stands before the replicas: Ray Serve's own proxy, or the HAProxy that comes with it, which passes many
    streams on far sooner. It opens two more ports, for statistics, on all interfaces: only behind a firewall."""

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or self.host.startswith("127.") or self.host == "::1"

    @property
    def asks_for_keys(self) -> bool:
        """require_keys, resolved."""
        return not self.is_loopback if self.require_keys is None else self.require_keys

    @model_validator(mode="after")
    def _never_open(self) -> Self:
        if self.require_keys is False and not self.is_loopback:
            raise ValueError(
                f"require_keys: false with host {self.host}: without keys the API listens on loopback only"
            )
        return self


AUTOSCALING_DEFAULTS = {
    # Serve's 10 s would let a queue build up for as long, and makes a start from zero five times as slow.
    "metrics_interval_s": 1.0,
    "look_back_period_s": 5.0,
    "upscale_delay_s": 5.0,
    # A replica that loads for minutes is worth keeping over a pause.
    "downscale_delay_s": 300.0,
}


class ReplicaConfig(StrictConfig):
    """Replicas of one model and how many, in Ray Serve's own field names."""

    num_replicas: int | None = Field(default=1, ge=0)
    """Fixed number; null with `autoscaling_config`."""

    autoscaling_config: dict[str, Any] | None = None
    """Ray Serve's AutoscalingConfig: min_replicas (0: to zero and back), max_replicas, target_ongoing_requests, …; what
    is not given is as in AUTOSCALING_DEFAULTS, then as Serve has it."""

    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float | None = Field(default=None, ge=0)
    """GPUs of a replica; null: those that its engine needs, none for the transformers engine."""

    resources: dict[str, float] = Field(default_factory=dict)
    """More that a replica takes of its node, by the names that the nodes were started with, as {serve: 1}."""

    max_ongoing_requests: int = Field(default=64, ge=1)
    """Requests that a replica takes at a time; the rest waits in Serve's queue."""

    max_queued_requests: int = Field(default=256, ge=-1)
    """Requests that may wait; more are answered 503."""

    answer_timeout_s: float | None = Field(default=600.0, gt=0)
    """How long a request may take in a replica, waiting for the engine included; then it is aborted, and answered 504
    or, in mid-stream, with an error event. null: as long as it takes."""

    graceful_shutdown_timeout_s: float = Field(default=630.0, ge=0)
    """How long a leaving replica may finish its streams: longer than the longest stream."""

    health_check_period_s: float = Field(default=5.0, gt=0)
    health_check_timeout_s: float = Field(default=30.0, gt=0)

    def autoscaling(self) -> dict[str, Any] | None:
        """autoscaling_config, with the defaults filled in."""
        return None if self.autoscaling_config is None else AUTOSCALING_DEFAULTS | self.autoscaling_config

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        longest = self.answer_timeout_s
        if longest is not None and longest > self.graceful_shutdown_timeout_s:
            raise ValueError(
                f"answer_timeout_s={longest:g} is longer than graceful_shutdown_timeout_s="
                f"{self.graceful_shutdown_timeout_s:g}: a leaving replica would cut answers; raise the latter"
            )
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

    route_prefix: str | None = Field(default=None, pattern=r"^/([A-Za-z0-9._-]+)?$")
    """Path before /v1, each model its own. null: `/`; with a gateway none, the model is reached through it only."""

    engine: EngineConfig = EngineConfig()
    codec: CodecSettings | None = None
    """For a base checkpoint. A finetuned one brings its codec in the manifest, and no other is accepted."""

    replicas: ReplicaConfig = ReplicaConfig()

    @property
    def gpus_per_replica(self) -> float:
        """replicas.num_gpus, resolved."""
        asked = self.replicas.num_gpus
        return float(self.engine.gpus) if asked is None else asked

    @model_validator(mode="after")
    def _has_its_gpus(self) -> Self:
        if self.engine.gpus and self.gpus_per_replica != self.engine.gpus:
            raise ValueError(
                f"replicas.num_gpus={self.replicas.num_gpus}, but the engine takes tensor_parallel_size="
                f"{self.engine.gpus} GPUs: leave num_gpus out"
            )
        return self


class GatewayConfig(StrictConfig):
    """One /v1 for all models, at `/`: by id, version (`name/3`) or alias (`name@production`)."""

    num_replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=0.5, ge=0)
    max_ongoing_requests: int = Field(default=1024, ge=1)
    max_queued_requests: int = Field(default=1024, ge=-1)
    """Requests that may wait for it; more are answered 503."""


class ServeConfig(StrictConfig):
    """A deployment: an HTTP address and the models behind it."""

    http: HttpConfig = HttpConfig()
    models: tuple[ModelAppConfig, ...]
    gateway: GatewayConfig | None = None
    """null: each model has a path of its own, and no token passes a second process."""

    wait_for_nodes: bool = False
    """Wait when the cluster's nodes cannot hold the replicas now: its autoscaler adds some. false: refuse at once."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.models:
            raise ValueError("models: give at least one")
        routes = [route for model in self.models if (route := self.route_of(model)) is not None]
        routes += ["/"] if self.gateway is not None else []
        for name, values in (("model_id", [model.model_id for model in self.models]), ("route_prefix", routes)):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"models: {name} {twice[0]!r} is used more than once")
        return self

    def route_of(self, model: ModelAppConfig) -> str | None:
        """The path of a model's own API; None: it has none."""
        return model.route_prefix or (None if self.gateway is not None else "/")
