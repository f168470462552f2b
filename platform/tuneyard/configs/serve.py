"""ServeConfig: the models of a deployment, the address where they are served, and the gateway."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tuneyard.configs.database import DatabaseConfig
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.configs.limits.header_limits import HeaderLimits
from tuneyard.configs.limits.key_counting import KeyCountingConfig
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.configs.replicas import ReplicaConfig
from tuneyard.configs.responses import ResponsesConfig
from tuneyard.configs.telemetry import TelemetryConfig
from tuneyard.core.resources import ResourceRequest
from tuneyard.core.strict_model import StrictConfig
from tuneyard.harmony.settings import CodecSettings


class HttpConfig(StrictConfig):
    """Where the API listens, and whether it requires API keys."""

    host: str = "127.0.0.1"
    """Address to listen on. On an address other than loopback the API requires API keys, and a deployment without any
    key is refused."""

    require_keys: bool | None = None
    """Whether every request needs an API key (`tuneyard keys create`). null: only if `host` is not loopback."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""

    proxy: Literal["serve", "haproxy"] = "serve"
    """The proxy in front of the replicas. `serve`: Ray Serve's own. `haproxy`: the HAProxy that Ray Serve includes,
    which forwards many streams with far less delay. It opens two more ports, for statistics, on all interfaces, so use
    it only behind a firewall."""

    allowed_hosts: tuple[str, ...] | None = None
    """Names by which clients may address the API, without a port: the request's `Host`. `*` allows every name. null: on
    loopback 127.0.0.1, localhost, ::1 and `host`, so that no web page reaches the API under a name of its own;
    elsewhere every name, because every request needs a key there."""

    cors_origins: tuple[str, ...] = ()
    """Web sites, such as https://app.example.com, whose pages may call the API from a browser. `*` allows every site.
    Keep it empty unless a page of yours calls the API itself: a key in a page is known to all who open it."""

    heartbeat_s: float = Field(default=5.0, gt=0)
    """Seconds without an event after which a stream sends a comment, so that proxies do not cut it."""

    limits: HttpLimits = HttpLimits()
    """What one request may hold."""

    keys: KeyCountingConfig = KeyCountingConfig()
    """What is counted for each API key, and where."""

    header_limits: HeaderLimits = HeaderLimits()
    """How long a connection may go without a complete request."""

    @property
    def served_hosts(self) -> tuple[str, ...]:
        """`allowed_hosts`, with null replaced by its meaning."""
        if self.allowed_hosts is not None:
            return self.allowed_hosts
        return tuple(dict.fromkeys(("127.0.0.1", "localhost", "::1", self.host))) if self.is_loopback else ("*",)

    @property
    def is_loopback(self) -> bool:
        """Whether `host` is a loopback address, which only this machine can reach."""
        return self.host == "localhost" or self.host.startswith("127.") or self.host == "::1"

    @property
    def requires_keys(self) -> bool:
        """`require_keys`, with null replaced by its meaning."""
        return not self.is_loopback if self.require_keys is None else self.require_keys

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if self.require_keys is False and not self.is_loopback:
            raise ValueError(
                f"require_keys: false with host {self.host}: without keys the API may listen on loopback only. Remove "
                "require_keys, or set host: 127.0.0.1"
            )
        return self


class ModelAppConfig(StrictConfig):
    """One served model: one Ray Serve application."""

    model_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")
    """The name that clients send as `model`."""

    checkpoint: str
    """`name@alias` or `name/version` in the registry, a checkpoint folder, or its URI. Environment variables are
    expanded."""

    route_prefix: str | None = Field(default=None, pattern=r"^/([A-Za-z0-9._-]+)?$")
    """Path before /v1, different for each model. null: `/`; with a gateway, the model is reached only through it."""

    engine: EngineConfig = EngineConfig()

    codec: CodecSettings | None = None
    """Codec settings of a base checkpoint; null: the defaults. A finetuned checkpoint has its codec in the manifest,
    and different settings are refused."""

    replicas: ReplicaConfig = ReplicaConfig()

    @property
    def gpus_per_replica(self) -> float:
        """`replicas.num_gpus`, with null replaced by its meaning."""
        num_gpus = self.replicas.num_gpus
        return float(self.engine.gpus) if num_gpus is None else num_gpus

    @model_validator(mode="after")
    def _check_gpus(self) -> Self:
        if self.engine.gpus and self.gpus_per_replica != self.engine.gpus:
            raise ValueError(
                f"replicas.num_gpus={self.replicas.num_gpus}, but the engine takes tensor_parallel_size="
                f"{self.engine.gpus} GPUs. Remove num_gpus"
            )
        return self

    @model_validator(mode="after")
    def _check_threads(self) -> Self:
        engine, cpus = self.engine.llama_cpp, self.replicas.num_cpus
        threads = max(engine.n_threads, engine.n_threads_batch or 1) if engine is not None else 0
        if threads > max(1.0, cpus):
            raise ValueError(
                f"llama.cpp runs {threads} threads (n_threads, n_threads_batch), but replicas.num_cpus={cpus:g}. Its "
                f"threads wait actively, and are slow where they share CPUs. Set num_cpus: {threads}"
            )
        return self


class GatewayConfig(StrictConfig):
    """One /v1 for all models, at `/`, which finds a model by id, version (`name/3`) or alias (`name@production`)."""

    num_replicas: int = Field(default=1, ge=1)
    """Number of gateway replicas."""

    num_cpus: float = Field(default=0.5, ge=0)
    """CPUs that Ray reserves for a gateway replica."""

    resources: dict[str, float] = Field(default_factory=dict)
    """Custom Ray resources that a gateway replica reserves, as `models.replicas.resources`. The gateway runs in the
    serve image: where other nodes have free CPUs, {serve: 0.01} keeps it on the nodes of that image and leaves their
    whole units to models."""

    max_ongoing_requests: int = Field(default=1024, ge=1)
    """Requests that a gateway replica processes at the same time. Further requests wait in Ray Serve's queue."""

    max_queued_requests: int = Field(default=1024, ge=-1)
    """Requests that may wait for the gateway. Further requests are answered with status 503. -1: no limit."""

    @property
    def resource_request(self) -> ResourceRequest:
        """The Ray resources of all gateway replicas."""
        return ResourceRequest(self.num_replicas, {"CPU": self.num_cpus} | self.resources)


class ServeConfig(StrictConfig):
    """A deployment: an HTTP address and the models behind it."""

    http: HttpConfig = HttpConfig()

    models: tuple[ModelAppConfig, ...] = ()
    """The served models, at least one; with `platform` there may be none."""

    gateway: GatewayConfig | None = None
    """A gateway in front of all models. null: each model has a path of its own, and tokens pass through only one
    process. With `platform` there is always a gateway; null then means its defaults."""

    platform: PlatformConfig | None = None
    """OpenAI's fine-tuning API, which the gateway answers beside all models: files, fine-tuning jobs, batches, evals.
    null: none."""

    responses: ResponsesConfig = Field(default_factory=ResponsesConfig)
    """What /v1/responses stores, and which built-in tools it leaves out of requests."""

    database: DatabaseConfig | None = None
    """The PostgreSQL database of what is stored. null: SQLite files, which only the processes of one node can share."""

    telemetry: TelemetryConfig = TelemetryConfig()
    """Where traces of requests are sent; by default nowhere."""

    wait_for_nodes: bool = False
    """If the cluster cannot hold the replicas now, waits until its autoscaler adds nodes. false: refuses the deployment
    at once."""

    @property
    def front(self) -> GatewayConfig | None:
        """The gateway of this deployment, with null replaced by its meaning; None without one."""
        return self.gateway or (GatewayConfig() if self.platform is not None else None)

    def route_of(self, model: ModelAppConfig) -> str | None:
        """The path of a model's own API; None if it is reached only through the gateway."""
        return model.route_prefix or (None if self.front is not None else "/")

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        if not self.models and self.platform is None:
            raise ValueError("models: give at least one model")
        at_root = next((model for model in self.models if model.route_prefix == "/"), None)
        if self.front is not None and at_root is not None:
            section = "platform" if self.platform is not None else "gateway"
            raise ValueError(
                f"models: the route_prefix '/' of {at_root.model_id!r} is that of the gateway, which the section "
                f"`{section}` adds. Leave it out, and the gateway answers for the model, or give the model another path"
            )
        routes = [route for model in self.models if (route := self.route_of(model)) is not None]
        for name, values in (("model_id", [model.model_id for model in self.models]), ("route_prefix", routes)):
            repeated = sorted({value for value in values if values.count(value) > 1})
            if repeated:
                raise ValueError(f"models: {name} {repeated[0]!r} is used more than once. Give each model its own")
        return self
