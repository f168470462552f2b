"""Deployment: starts the models of a ServeConfig on Ray Serve, and takes them down."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from serve_apps.deployment.applications import (
    GATEWAY_APPLICATION,
    application_name,
    begin_applications,
    remove_applications,
    running_applications,
    wait_until_running,
)
from serve_apps.deployment.checked_model import CheckedModel, check_model
from serve_apps.deployment.replica_resources import (
    check_files_visible,
    check_replica_placement,
    check_response_store,
    count_nodes,
)
from serve_apps.deployment.required_keys import required_key_store
from serve_apps.deployment.serve_address import (
    check_address_free,
    enable_haproxy,
    is_serve_running_at,
    limit_headers,
)
from serve_apps.deployment.serve_start import start_serve
from serve_apps.deployment.usage_storage import check_usage_storage
from serve_apps.tracing.tracing import tracing_options
from tuneyard.api.admin_key import load_admin_key
from tuneyard.api.api_keys import KeyStore
from tuneyard.cluster.connection import connect_ray, disconnect_ray, joins_cluster
from tuneyard.cluster.haproxy import (
    HARD_STOP_VARIABLE,
    required_hard_stop_s,
    running_hard_stop_s,
    too_short_fix,
    too_short_text,
)
from tuneyard.cluster.serve_streams import set_stream_environment
from tuneyard.configs.experiment_tracking import check_wandb, wandb_environment
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.errors import TuneyardError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity import RenderRow, check_parity, render_over_http
from tuneyard.storage.audit_log import AuditLog, digest_of

if TYPE_CHECKING:
    from serve_apps.http_front.access import Access


class Deployment:
    """Context manager: inside it, all models of the config answer over HTTP.

    On exit its applications are removed, and a private Ray ends. `report` gets one line for people per step.
    Raises before anything starts: PortInUseError, CheckpointError, ParityError, RegistryError, ConfigError,
    ClusterError. Raises ClusterError also if no replica starts, with Serve's reason.
    """

    def __init__(
        self,
        config: ServeConfig,
        *,
        address: str | None = None,
        verbose: bool = False,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._address = address
        self._verbose = verbose
        self._report = report
        self._stack = contextlib.ExitStack()
        self._audit_log = AuditLog()
        self._keeps_usage = False

    @property
    def base_urls(self) -> list[str]:
        """The base URL of each model, for an OpenAI client."""
        host = "127.0.0.1" if self._config.http.host in ("0.0.0.0", "::") else self._config.http.host
        root = f"http://{host}:{self._config.http.port}"
        routes = [self._config.route_of(model) or "/" for model in self._config.models]
        return [f"{root}{route.rstrip('/')}/v1" for route in routes]

    def example_requests(self) -> Iterator[str]:
        """Lines for people: each model's base URL and a curl command."""
        for model, url in zip(self._config.models, self.base_urls, strict=True):
            body = f'{{"model": "{model.model_id}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
            yield f"  {model.model_id} at {url}"
            key = " -H 'Authorization: Bearer ty-…'" if self._config.http.requires_keys else ""
            yield f"    curl {url}/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            try:
                self._stack.close()
            except TuneyardError as e:
                # Raised, it would hide why the start failed.
                self._report(f"warning: {e}")
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def detach(self) -> None:
        """Keeps the applications on their cluster when the context ends."""
        self._stack.pop_all()

    def _start(self) -> None:
        http = self._config.http
        keys = required_key_store(http)
        if http.proxy == "haproxy":
            enable_haproxy(self._required_hard_stop_s)
        limit_headers(http.header_limits)
        set_stream_environment(os.environ)
        joins = joins_cluster(self._address)
        if not joins:
            check_address_free(http)
        models = [check_model(model) for model in self._config.models]
        for model in models:
            self._report(f"{model.config.model_id}: checkpoint proved, {model.checkpoint}")
        self._connect()
        if joins and not is_serve_running_at(http):
            check_address_free(http)
        self._check_cluster(models, keys)
        self._start_serve(joins)
        self._start_applications(models, keys)

    @property
    def _required_hard_stop_s(self) -> int:
        return required_hard_stop_s(model.replicas.answer_timeout_s for model in self._config.models)

    def _connect(self) -> None:
        import ray

        is_connected = ray.is_initialized()
        # Fine-tuning jobs are Ray jobs.
        job_server = self._config.platform is not None
        self._report(f"Ray: {connect_ray(self._address, verbose=self._verbose, job_server=job_server)}")
        if not is_connected:
            self._stack.callback(disconnect_ray)

    def _check_cluster(self, models: Sequence[CheckedModel], keys: KeyStore | None) -> None:
        """Checks that replicas can be placed, and that they will see their files."""
        front = self._config.front
        shortages = check_replica_placement(models, front, wait_for_nodes=self._config.wait_for_nodes)
        check_files_visible(models, front, keys)
        check_response_store(self._config.responses, self._config.database)
        if self._config.platform is not None:
            from serve_apps.platform_app.storage_check import check_platform_storage

            check_platform_storage(self._config.platform, self._config.database, count_nodes())
            if self._config.platform.wandb is not None:
                check_wandb("platform.wandb", os.environ)
        self._keeps_usage = check_usage_storage(keys, self._config.database, count_nodes())
        if keys is not None and not self._keeps_usage:
            self._report("the usage of API keys is not kept: on several nodes that needs `database` in the config")
        if shortages:
            self._report(f"waiting for nodes: {shortages}")

    def _start_serve(self, joins: bool) -> None:
        """Starts Serve unless it runs, and registers the removal of what this deployment adds to it.

        `joins`: whether the cluster was started by others, without this process' environment.
        """
        from ray.serve.config import HTTPOptions

        logging.getLogger("ray.serve").setLevel(logging.INFO if self._verbose else logging.ERROR)
        http, required_s = self._config.http, self._required_hard_stop_s
        options = None
        if joins and http.proxy == "haproxy":
            options = {"runtime_env": {"env_vars": {HARD_STOP_VARIABLE: str(required_s)}}}
        start_serve(HTTPOptions(host=http.host, port=http.port), options, self._report)
        running_s = running_hard_stop_s()
        if running_s is not None and running_s < required_s:
            self._report(f"warning: {too_short_text(running_s, required_s)}. {too_short_fix(required_s)}")
        own = [GATEWAY_APPLICATION] if self._config.front is not None else []
        own += [application_name(model.model_id) for model in self._config.models]
        # Applications that ran before stay: if their update fails, Serve keeps their old replicas.
        running = running_applications()
        timeouts = [model.replicas.graceful_shutdown_timeout_s for model in self._config.models]
        added = [name for name in own if name not in running]
        self._stack.callback(remove_applications, added, max(timeouts, default=0.0))

    def _start_applications(self, models: Sequence[CheckedModel], keys: KeyStore | None) -> None:
        """Starts the models and proves their parity; last the gateway.

        New models load at the same time. One that already runs is updated by itself, when those before it are up: an
        update may need resources beside the old replicas, and none follows one that failed.
        """
        from ray.serve import RunTarget

        from serve_apps.http_front.access import Access
        from serve_apps.model_app.application import build_app

        admin_key = load_admin_key()
        key_file = keys.path if keys is not None else None
        access = Access(
            admin_key,
            key_file,
            self._config.http,
            self._config.responses,
            self._config.database,
            tracing_options(self._config.telemetry, os.environ),
            audit_file=self._audit_log.path,
            keeps_usage=self._keeps_usage,
        )
        running = running_applications()
        targets = [
            RunTarget(
                build_app(model.config, model.checkpoint, model.version, model.codec, access),
                name=application_name(model.config.model_id),
                route_prefix=self._config.route_of(model.config),
            )
            for model in models
        ]
        started_at = time.monotonic()
        begin_applications([target for target in targets if target.name not in running])
        for model, target, base_url in zip(models, targets, self.base_urls, strict=True):
            model_id = model.config.model_id
            if target.name in running:
                started_at = time.monotonic()
                begin_applications([target])
            wait_until_running(target.name, model_id)
            self._report(f"{model_id}: up after {time.monotonic() - started_at:.1f} s")
            if target.route_prefix is not None:
                self._prove_parity(model, render_over_http(base_url, model_id, admin_key))
        self._start_front(access)
        self._record_start(models)

    def _start_front(self, access: Access) -> None:
        """Starts the gateway: with the fine-tuning API, if the config has it."""
        from ray.serve import RunTarget

        from serve_apps.gateway.app import build_gateway
        from serve_apps.platform_app.deployment import build_platform

        gateway, platform = self._config.front, self._config.platform
        if gateway is None:
            return
        if platform is None:
            front = build_gateway(gateway, access)
        else:
            # The nodes of a running cluster may lack them: check_wandb has looked at this environment.
            variables = wandb_environment(os.environ) if platform.wandb is not None else {}
            front = build_platform(platform, gateway, access, variables)
        begin_applications([RunTarget(front, name=GATEWAY_APPLICATION, route_prefix="/")])
        wait_until_running(GATEWAY_APPLICATION, GATEWAY_APPLICATION)
        self._report("gateway: up; all models at one /v1")
        if platform is not None:
            self._report("platform: up; files, fine-tuning jobs, batches and evals at the same /v1")

    def _record_start(self, models: Sequence[CheckedModel]) -> None:
        """Appends a line to the audit log, and one more when the deployment is removed."""
        names = ", ".join(model.config.model_id for model in models)
        digest = digest_of(self._config.model_dump(mode="json"))
        versions = {model.config.model_id: model.version for model in models}
        self._audit_log.append("deployment.start", names, after=digest, details={"versions": versions})
        self._stack.callback(self._audit_log.append, "deployment.stop", names, before=digest)

    def _prove_parity(self, model: CheckedModel, render: RenderRow) -> None:
        """Checks parity over HTTP, through the route that clients use. Each replica checked it before it started."""
        if not model.parity_rows:
            self._report(
                f"{model.config.model_id}: parity not proved, because the manifest has no prompts of its training"
            )
            return
        codec = HarmonyCodec.from_checkpoint(model.folder, model.codec)
        tokens = check_parity(model.parity_rows, render, codec, model.config.model_id)
        self._report(
            f"{model.config.model_id}: parity proved, {len(model.parity_rows)} prompts of its training render "
            f"to the same {tokens} tokens"
        )
