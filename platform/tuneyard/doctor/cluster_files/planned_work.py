"""The work that a cluster file is for: what a finetuning run or a deployment requests of its nodes."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.core.errors import ConfigError
from tuneyard.core.resources import ResourceRequest
from tuneyard.doctor.cluster_files.yaml_documents import items_at, parse_documents, value_at
from tuneyard.planning.export_memory import published_export_bytes

IMAGE_ROOT = "/opt/tuneyard/"
"""Where the serve image holds the checkout's configs."""


@dataclass(frozen=True, slots=True)
class PlannedWork:
    """A finetuning run or a deployment."""

    config: str
    """The config's path, for messages."""
    requests: tuple[ResourceRequest, ...]
    export_bytes: int = 0
    """Main memory that the export of a run takes on one node; 0 if it is not known."""


def load_work(path: Path, overrides: Sequence[str] = ()) -> PlannedWork:
    """Returns the work of a config file. Raises ConfigError if it is neither a finetuning nor a deployment config."""
    from tuneyard.configs.finetune import FinetuneConfig
    from tuneyard.configs.serve import ServeConfig
    from tuneyard.core.config_loading import load_config, top_level_fields

    if "models" in top_level_fields(path):
        deployment = load_config(ServeConfig, path, list(overrides))
        gateways = [deployment.gateway.resource_request] if deployment.gateway is not None else []
        return PlannedWork(str(path), (*map(_replica_request, deployment.models), *gateways))
    run = load_config(FinetuneConfig, path, list(overrides))
    export = published_export_bytes(run.model.base, run.training.backend)
    return PlannedWork(str(path), (run.workers.resource_request,), export)


def named_work(document: dict[str, Any], file: Path) -> Iterator[PlannedWork]:
    """Yields the work whose config a RayJob or a RayService names.

    A relative path, and one in the serve image, is looked up in the working directory and in the folders above `file`.
    Configs at other absolute paths are on the cluster's volume, and are passed over. Raises ConfigError, with the place
    in the document, for a config that is not found or not valid.
    """
    try:
        arguments = shlex.split(str(value_at(document, "spec.entrypoint") or ""))
    except ValueError as e:
        raise ConfigError(f"spec.entrypoint: a shell cannot read the command: {e}.") from e
    options = list(itertools.pairwise(arguments))
    overrides = [value for name, value in options if name == "--set"]
    named = [("spec.entrypoint", value, overrides) for name, value in options if name == "--config"]
    for text in filter(None, [value_at(document, "spec.serveConfigV2")]):
        for part in parse_documents(text, "spec.serveConfigV2"):
            for number, application in enumerate(items_at(part, "applications")):
                if config := value_at(application, "args.config"):
                    named.append((f"spec.serveConfigV2.applications.{number}.args.config", str(config), []))
    for place, name, of_run in named:
        relative = Path(name.removeprefix(IMAGE_ROOT))
        if relative.is_absolute():
            continue
        found = [folder / relative for folder in (Path.cwd(), *file.resolve().parents) if (folder / relative).is_file()]
        if not found:
            raise ConfigError(
                f"{place}: the config {name} is neither in {Path.cwd()} nor in a folder above {file}. The work would "
                "fail when it starts. Correct the path, or run this command in the checkout that the cluster gets."
            )
        try:
            yield load_work(found[0], of_run)
        except ConfigError as e:
            raise ConfigError(f"{place}: {e}") from e


def _replica_request(model: Any) -> ResourceRequest:
    """The resources of the replicas that a model starts with."""
    replicas = model.replicas
    options = replicas.autoscaling_config or {}
    count = int(replicas.num_replicas if replicas.num_replicas is not None else options.get("min_replicas", 1))
    amounts = {"CPU": replicas.num_cpus, "GPU": model.gpus_per_replica}
    return ResourceRequest(count, {name: value for name, value in amounts.items() if value} | replicas.resources)
