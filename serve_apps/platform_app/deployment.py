"""The fine-tuning API as a Serve application: the gateway with more routes, and the reconciler."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from serve_apps.gateway.app import Gateway
from serve_apps.gateway.model_directory import ModelDirectory
from serve_apps.http_front.access import Access
from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.app import MULTIPART_PATHS, add_platform_routes, build_parts
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.reconciler import Reconciler
from serve_apps.platform_app.store.lease import Lease
from serve_apps.platform_app.store.platform_database import database_location, open_database
from serve_apps.platform_app.tuned_models.model_store import ModelStore
from serve_apps.platform_app.tuned_models.served_models import ServedModels
from serve_apps.request_queue import request_queue_options
from tuneyard.api.held_bodies import limit_held_bodies
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.configs.serve import GatewayConfig
from tuneyard.core.errors import EngineError
from tuneyard.storage.sql.database import SqlDatabase

API_DEPLOYMENT = "Platform"
RECONCILER_DEPLOYMENT = "Reconciler"
LEASE_NAME = "reconciler"

RECONCILER_CPUS = 0.1
"""CPUs that Ray reserves for the reconciler, which mostly waits."""


class Platform(Gateway):
    """A gateway with the routes of all parts."""

    def __init__(self, access: Access, config: PlatformConfig, _reconciler: Any) -> None:
        """`_reconciler`, its handle, makes Serve deploy it in the same application; nothing calls it."""
        limit_held_bodies()
        self._config = config
        self._database = open_database(database_location(config, access.database))
        super().__init__(access, open_directory(self._database, config))

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve after the constructor."""
        context = PlatformContext.open(self._config, self._access, self._gate, self._directory, self._database)
        api = self._create_api(MULTIPART_PATHS, self._database.close)
        add_platform_routes(api, build_parts(context), context)
        return api


class ReconcilerReplica:
    """The deployment class of the reconciler."""

    def __init__(self, access: Access, config: PlatformConfig, job_variables: Mapping[str, str]) -> None:
        replica = serve.get_replica_context().replica_id.unique_id
        self._database = open_database(database_location(config, access.database))
        self._gate = access.open_gate(replica)
        directory = open_directory(self._database, config)
        context = PlatformContext.open(config, access, self._gate, directory, self._database, job_variables)
        lease = Lease(self._database, LEASE_NAME, replica)
        self._reconciler = Reconciler(build_parts(context), self._database, lease)
        self._running = asyncio.create_task(run_reconciler(self._reconciler, self._gate))

    async def check_health(self) -> None:
        """Called by Ray Serve. Raises EngineError if the work has ended: Serve then starts another replica."""
        if self._running.done():
            raise EngineError("The reconciler has ended; its log has the reason.")

    async def __del__(self) -> None:
        """Called by Ray Serve before the replica ends: gives the lease back."""
        self._running.cancel()
        await asyncio.wait([self._running])
        self._database.close()


async def run_reconciler(reconciler: Reconciler, gate: KeyGate) -> None:
    """Runs the reconciler; usage of API keys is counted meanwhile."""
    async with gate.running():
        await reconciler.run()


def open_directory(database: SqlDatabase, config: PlatformConfig) -> ModelDirectory:
    """The running models, with those of single owners, which the store knows."""
    return ModelDirectory(owned=ServedModels(ModelStore(database), config.organization))


def build_platform(
    config: PlatformConfig, gateway: GatewayConfig, access: Access, job_variables: Mapping[str, str]
) -> Application:
    """The Serve application, not deployed yet. For `job_variables` see PlatformContext."""
    reconciler = serve.deployment(ReconcilerReplica).options(
        name=RECONCILER_DEPLOYMENT,
        num_replicas=1,
        ray_actor_options={"num_cpus": RECONCILER_CPUS, "resources": gateway.resources},
    )
    platform = serve.deployment(serve.ingress()(Platform)).options(
        name=API_DEPLOYMENT,
        num_replicas=gateway.num_replicas,
        ray_actor_options={"num_cpus": gateway.num_cpus, "resources": gateway.resources},
        **request_queue_options(gateway.max_ongoing_requests, gateway.max_queued_requests),
    )
    return platform.bind(access, config, reconciler.bind(access, config, job_variables))
