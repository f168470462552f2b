"""ServeModelHost: tuned models as applications of Ray Serve, which have no replica until they are used."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from serve_apps.deployment.applications import begin_applications, remove_applications, wait_until_running
from serve_apps.deployment.checked_model import check_model
from serve_apps.gateway.owned_models import OWNED_APPLICATION_PREFIX
from serve_apps.http_front.access import Access
from serve_apps.model_app.application import build_app
from serve_apps.model_app.lineage import lineage_headers
from serve_apps.platform_app.tuned_models.model_host import ServedFacts
from serve_apps.platform_app.tuned_models.model_record import ModelRecord
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.platform_api.base_models import PlatformBaseConfig
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.core.errors import ClusterError, ConfigError


class ServeModelHost:
    """See ModelHost. `bases` say how the models of each base are served; `access` is that of the replicas."""

    def __init__(self, bases: Mapping[str, PlatformBaseConfig], access: Access) -> None:
        self._bases = bases
        # The replicas answer the gateway's calls only, which has admitted them; they need no keys.
        self._access = dataclasses.replace(access, key_file=None)

    async def start(self, model: ModelRecord) -> ServedFacts:
        """See ModelHost. Raises ConfigError if the deployment's config no longer has the model's base."""
        base = self._bases.get(model.base)
        if base is None:
            raise ConfigError(
                f"{model.name}: the deployment's config has no base {model.base!r} any more, which says how the model "
                "is served. Add it to platform.bases."
            )
        return await asyncio.to_thread(self._start, model, base)

    async def remove(self, model_id: str) -> None:
        """See ModelHost."""
        await asyncio.to_thread(self._remove, model_id)

    async def running(self) -> set[str]:
        """See ModelHost."""
        return set(await asyncio.to_thread(_statuses))

    def _start(self, model: ModelRecord, base: PlatformBaseConfig) -> ServedFacts:
        from ray.serve import RunTarget

        # Few clients ask an earlier checkpoint, so none takes resources while it is not asked.
        replicas = base.replicas if model.checkpoint_of is None else base.replicas.scaled_to_zero()
        config = ModelAppConfig(model_id=model.name, checkpoint=model.checkpoint, engine=base.engine, replicas=replicas)
        checked = check_model(config)
        if _statuses().get(model.id) not in ("RUNNING", "DEPLOYING"):
            app = build_app(config, checked.checkpoint, model.version, checked.codec, self._access)
            begin_applications([RunTarget(app, name=model.id, route_prefix=None)])
        wait_until_running(model.id, model.name)
        headers = lineage_headers(read_manifest(checked.folder), model.version)
        return ServedFacts(context_tokens(base.engine, checked.folder), headers)

    def _remove(self, model_id: str) -> None:
        if model_id not in _statuses():
            return
        timeouts = [base.replicas.graceful_shutdown_timeout_s for base in self._bases.values()]
        remove_applications([model_id], max(timeouts, default=0.0))


def context_tokens(engine: EngineConfig, folder: Path) -> int:
    """Tokens of prompt and answer together that the engine takes with this checkpoint, without loading it."""
    if engine.tensorrt_llm is not None:
        return engine.tensorrt_llm.max_seq_len
    limit = engine.llama_cpp.max_model_len if engine.llama_cpp is not None else engine.kv_cache_tokens
    return min(int(read_json(folder / "config.json")["max_position_embeddings"]), limit)


def _statuses() -> dict[str, str]:
    """The status of each application of a tuned model, by the model's id. Raises ClusterError."""
    from ray import serve
    from ray.exceptions import RayError

    try:
        applications = serve.status().applications
    except (RayError, RuntimeError) as e:
        raise ClusterError(f"Ray Serve does not answer: {e}") from e
    return {name: str(app.status) for name, app in applications.items() if name.startswith(OWNED_APPLICATION_PREFIX)}
