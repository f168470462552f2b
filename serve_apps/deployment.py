"""Config -> checked checkpoints -> running Serve applications, and their end."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tuneyard.api.admin_key import load_admin_key
from tuneyard.api.api_keys import KeyStore
from tuneyard.checkpoints.engine_compatibility import check_for_engine
from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4, read_json
from tuneyard.checkpoints.manifest import MANIFEST_NAME, CheckpointManifest, read_manifest
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.references import locate_checkpoint
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.cluster.connection import check_placement, connect_ray, disconnect_ray, joins_cluster
from tuneyard.configs.serve import GatewayConfig, HttpConfig, ModelAppConfig, ServeConfig
from tuneyard.core.errors import CheckpointError, ClusterError, ConfigError
from tuneyard.core.ports import check_port_free
from tuneyard.core.resources import Need
from tuneyard.doctor.shared_paths import check_seen_by_nodes
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec
from tuneyard.harmony.parity import ParityRow, RenderRow, check_parity, parse_parity_rows, render_over_http, render_with
from tuneyard.planning.serve_plan import plan_engine
from tuneyard.storage.folder import child_location, is_uri

GATEWAY = "gateway"
"""Name of the gateway's application."""


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A model whose checkpoint and codec have been found right."""

    config: ModelAppConfig
    checkpoint: str
    """Its location."""
    folder: Path
    """Where its config and tokenizer can be read here."""
    version: str
    """`name/version`: the registry's, or that of a manifest."""
    codec: CodecSettings
    parity: tuple[ParityRow, ...] = ()
    """Prompts of its training; here they render to the same tokens."""


def check_model(config: ModelAppConfig) -> CheckedModel:
    """The model with its checkpoint resolved and proved, and the codec that it must be served with.

    Raises CheckpointError for a checkpoint that is not what its manifest says, ParityError or CheckpointError when
    its prompts would not be those that it was trained on, ConfigError when the engine cannot hold it, RegistryError for
    an unknown reference.
    """
    location, registered = locate_checkpoint(config.checkpoint)
    # On an object store each node proves every byte as it fetches it; only TensorRT-LLM's checks need the weights here.
    checkpoint = local_folder(location, weights=config.engine.tensorrt_llm is not None)
    manifest = read_manifest(checkpoint) if is_uri(location) else validate_hf_checkpoint(checkpoint)
    version = registered or f"{manifest.name}/{manifest.version}"
    _check_engine(config, checkpoint, manifest)
    if manifest.codec is None:
        return CheckedModel(config, location, checkpoint, version, config.codec or CodecSettings())
    trained = CodecSettings.model_validate(manifest.codec.settings)
    if config.codec is not None and config.codec != trained:
        raise CheckpointError(
            f"{config.model_id}: the config's codec {config.codec.model_dump()} is not the one that the checkpoint was "
            f"trained with, {trained.model_dump()}. Remove `codec` from the config: the manifest brings it."
        )
    codec = HarmonyCodec.from_checkpoint(checkpoint, trained)
    if codec.fingerprint != manifest.codec.fingerprint:
        raise CheckpointError(
            f"{config.model_id}: prompts rendered here are not those of its training (codec fingerprint "
            f"{codec.fingerprint[:12]}, trained with {manifest.codec.fingerprint[:12]}). Install the manifest's "
            f"versions: {manifest.software}."
        )
    rows = parse_parity_rows(manifest.parity)
    check_parity(rows, render_with(codec), codec, config.model_id)
    return CheckedModel(config, location, checkpoint, version, trained, rows)


def _check_engine(config: ModelAppConfig, checkpoint: Path, manifest: CheckpointManifest) -> None:
    """What the TensorRT-LLM engine asks of checkpoint and GPUs; asked here, where nothing has been started."""
    engine = config.engine.tensorrt_llm
    if engine is None:
        return
    check_for_engine(checkpoint, manifest, config.engine.engine)
    plan = plan_engine(engine, read_json(checkpoint / "config.json"), is_mxfp4=is_mxfp4(checkpoint))
    if plan.problems:
        raise ConfigError(f"{config.model_id} on {plan.gpus} × {plan.gpu.name}:\n  " + "\n  ".join(plan.problems))


class Deployment:
    """Context manager: inside it, all models of the config answer over HTTP.

    Raises before anything starts: PortInUseError, CheckpointError, ParityError, RegistryError, ConfigError,
    ClusterError. ClusterError too when no replica comes up, with what Serve says of it.
    On leaving, what it deployed is gone; a private Ray too.
    """

    def __init__(
        self,
        config: ServeConfig,
        *,
        address: str | None = None,
        verbose: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._address = address
        self._verbose = verbose
        self._say = say
        self._stack = contextlib.ExitStack()

    @property
    def base_urls(self) -> list[str]:
        """One per model, for an OpenAI client."""
        host = "127.0.0.1" if self._config.http.host in ("0.0.0.0", "::") else self._config.http.host
        root = f"http://{host}:{self._config.http.port}"
        routes = [self._config.route_of(model) or "/" for model in self._config.models]
        return [f"{root}{route.rstrip('/')}/v1" for route in routes]

    def how_to_try(self) -> Iterator[str]:
        """A curl line per model, for people."""
        for model, url in zip(self._config.models, self.base_urls, strict=True):
            body = f'{{"model": "{model.model_id}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
            yield f"  {model.model_id} at {url}"
            key = " -H 'Authorization: Bearer ty-…'" if self._config.http.asks_for_keys else ""
            yield f"    curl {url}/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"

    def __enter__(self) -> Self:
        with self._stack:
            self._start()
            # Reached only on success: what has been started stays up until __exit__.
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def leave_up(self) -> None:
        """What is deployed outlives this process, on its cluster."""
        self._stack.pop_all()

    def _start(self) -> None:
        http = self._config.http
        keys = key_store(http)
        if http.proxy == "haproxy":
            use_haproxy()
        joins = joins_cluster(self._address)
        if not joins:
            _check_port(http)
        models = [check_model(model) for model in self._config.models]
        for model in models:
            self._say(f"{model.config.model_id}: checkpoint proved, {model.checkpoint}")
        import ray
        from ray import serve
        from ray.serve.config import HTTPOptions

        from serve_apps.gateway.gateway_app import build_gateway
        from serve_apps.model_app import Access, build_app

        already = ray.is_initialized()
        self._say(f"Ray: {connect_ray(self._address, verbose=self._verbose)}")
        if not already:
            self._stack.callback(disconnect_ray)
        if joins and not _serves_at(http):
            _check_port(http)
        lacking = _check_replicas(models, self._config.gateway, wait_for_nodes=self._config.wait_for_nodes)
        _check_files(models, keys)
        if lacking:
            self._say(f"waiting for nodes: {lacking}")
        logging.getLogger("ray.serve").setLevel(logging.INFO if self._verbose else logging.ERROR)
        serve.start(http_options=HTTPOptions(host=http.host, port=http.port))
        # What was served before, a failed deployment leaves alone: Serve's update keeps the old replicas.
        self._stack.callback(self._take_down, set(serve.status().applications))
        admin_key = load_admin_key()
        access = Access(admin_key, keys.path if keys is not None else None)
        for model, base_url in zip(models, self.base_urls, strict=True):
            app = build_app(model.config, model.checkpoint, model.version, model.codec, access)
            started = time.monotonic()
            name = _app_name(model.config)
            try:
                serve.run(app, name=name, route_prefix=self._config.route_of(model.config), blocking=False)
            except RuntimeError as e:
                raise ClusterError(
                    f"{model.config.model_id}: no replica came up.\n{_deployment_messages(name) or e}"
                ) from e
            self._say(f"{model.config.model_id}: up after {time.monotonic() - started:.1f} s")
            if self._config.route_of(model.config) is not None:
                self._prove_parity(model, render_over_http(base_url, model.config.model_id, admin_key))
        if self._config.gateway is not None:
            serve.run(build_gateway(self._config.gateway, access), name=GATEWAY, route_prefix="/", blocking=False)
            self._say("gateway: up; all models at one /v1")

    def _prove_parity(self, model: CheckedModel, render: RenderRow) -> None:
        """Through the route that clients use; each replica has done it for itself before it took a request."""
        if not model.parity:
            self._say(f"{model.config.model_id}: no prompts of its training in the manifest, parity not proved")
            return
        codec = HarmonyCodec.from_checkpoint(model.folder, model.codec)
        tokens = check_parity(model.parity, render, codec, model.config.model_id)
        self._say(
            f"{model.config.model_id}: parity proved, {len(model.parity)} prompts of its training render "
            f"to the same {tokens} tokens"
        )

    def _take_down(self, there_before: set[str]) -> None:
        from ray import serve

        ours = [GATEWAY] if self._config.gateway is not None else []
        ours += [_app_name(model) for model in self._config.models]
        for name in ours:
            if name not in there_before:
                serve.delete(name)
        if not serve.status().applications:
            serve.shutdown()


def _check_port(http: HttpConfig) -> None:
    check_port_free(http.host, http.port, f"--set http.port={http.port + 1}")


def _serves_at(http: HttpConfig) -> bool:
    """Whether the cluster's Serve runs already, and at this address. Raises ClusterError when it is at another: Serve
    has one.
    """
    from ray.serve.context import _get_global_client
    from ray.serve.exceptions import RayServeException

    try:
        there = _get_global_client().http_config
    except RayServeException:
        return False
    if (there.host, there.port) != (http.host, http.port):
        raise ClusterError(
            f"This cluster serves at {there.host}:{there.port} already, and can do so at one address only; the config "
            f"says {http.host}:{http.port}. Set http.host and http.port to it, or end that: tuneyard serve stop"
        )
    return True


def use_haproxy() -> None:
    """Serve's settings for HAProxy and many streams, for a Ray that this process starts. A cluster that runs already
    needs them in the environment of its nodes.
    """
    from tuneyard.core.ports import free_port

    settings = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Fixed ones by default, which a second deployment on the machine would find taken.
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def key_store(http: HttpConfig) -> KeyStore | None:
    """Raises ConfigError when keys are asked for and there are none."""
    if not http.asks_for_keys:
        return None
    store = KeyStore()
    if not store.listed():
        raise ConfigError(
            f"http.host is {http.host}, and there are no API keys: the API would be open to whoever reaches it, or to "
            "nobody. Make one: tuneyard keys create NAME. Without keys it listens on 127.0.0.1 only."
        )
    return store


def _app_name(model: ModelAppConfig) -> str:
    return model.model_id.replace("/", "-").replace(":", "-")


def _deployment_messages(app_name: str) -> str:
    """What Serve says about an application's deployments: the constructor's error is in it."""
    from ray import serve

    app = serve.status().applications.get(app_name)
    return "\n".join(d.message for d in app.deployments.values() if d.message) if app else ""


def _check_replicas(models: list[CheckedModel], gateway: GatewayConfig | None, *, wait_for_nodes: bool) -> str:
    """Refuses what can never be placed, and autoscaling options that Serve does not know. See check_placement."""
    needs = [need for model in models for need in _replica_needs(model.config)]
    alone = [[need] for need in needs if need.count == 0]
    if gateway is not None:
        needs.append(Need(gateway.num_replicas, {"CPU": gateway.num_cpus}))
    # A model that starts with no replica must be able to have one, not beside all others.
    lacking = [
        check_placement(
            found,
            "The deployment",
            wait_for_nodes=wait_for_nodes,
            fields="replicas.num_replicas, replicas.num_cpus, replicas.num_gpus, replicas.resources",
            wait_field="wait_for_nodes",
        )
        for found in (needs, *([Need(1, need.each)] for (need,) in alone))
    ]
    return "; ".join(filter(None, lacking))


def _check_files(models: list[CheckedModel], keys: KeyStore | None) -> None:
    """Refuses a checkpoint, or keys, that a node which may get a replica does not see."""
    for model in models:
        places = {f"{model.config.model_id}: checkpoint": child_location(model.checkpoint, MANIFEST_NAME)}
        if keys is not None:
            places["API keys"] = str(keys.path)
        check_seen_by_nodes(places, list(_replica_needs(model.config)))


def _replica_needs(config: ModelAppConfig) -> Iterator[Need]:
    """What the replicas that it starts with take: one kind of need, or two where an engine's workers stand apart."""
    replicas, engine = config.replicas, config.engine.tensorrt_llm
    count = _first_replicas(config)
    if engine is not None and engine.orchestrator == "ray":
        yield Need(count, {"CPU": replicas.num_cpus} | replicas.resources)
        yield Need(count * config.engine.gpus, {"CPU": 1.0, "GPU": 1.0})
        return
    amounts = {"CPU": replicas.num_cpus, "GPU": config.gpus_per_replica}
    yield Need(count, {name: amount for name, amount in amounts.items() if amount} | replicas.resources)


def _first_replicas(config: ModelAppConfig) -> int:
    from pydantic import ValidationError
    from ray.serve.config import AutoscalingConfig

    options = config.replicas.autoscaling_config
    if options is None:
        return config.replicas.num_replicas or 0
    if unknown := sorted(set(options) - set(AutoscalingConfig.model_fields)):
        raise ConfigError(
            f"{config.model_id}: autoscaling_config has no field {unknown[0]!r}. "
            f"Known: {', '.join(sorted(AutoscalingConfig.model_fields))}."
        )
    try:
        return int(AutoscalingConfig(**options).min_replicas)
    except ValidationError as e:
        raise ConfigError(f"{config.model_id}: autoscaling_config: {e}") from e
