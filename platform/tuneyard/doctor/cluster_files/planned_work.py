"""The work that a cluster file is for: what a finetuning run or a deployment requests of its nodes."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneyard.core.resources import ResourceRequest
from tuneyard.core.yaml_files import parse_yaml
from tuneyard.doctor.cluster_files.yaml_documents import parse_documents, value_at
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
    from tuneyard.core.config_loading import load_config

    if "models" in parse_yaml(path.read_text(encoding="utf-8"), str(path)):
        deployment = load_config(ServeConfig, path, list(overrides))
        gateways = [deployment.gateway.resource_request] if deployment.gateway is not None else []
        return PlannedWork(str(path), (*map(_replica_request, deployment.models), *gateways))
    run = load_config(FinetuneConfig, path, list(overrides))
    export = published_export_bytes(run.model.base, run.training.backend)
    return PlannedWork(str(path), (run.workers.resource_request,), export)


def named_work(document: dict[str, Any], file: Path) -> Iterator[PlannedWork]:
    """Yields the work whose config a RayJob or a RayService names, if the config is found.

    A relative path is looked up in the working directory and in the folders above `file`.
    """
    arguments = shlex.split(str(value_at(document, "spec.entrypoint") or ""))
    values = dict(itertools.pairwise(arguments))
    names = [values["--config"]] if "--config" in values else []
    overrides = [value for name, value in itertools.pairwise(arguments) if name == "--set"]
    for text in filter(None, [value_at(document, "spec.serveConfigV2")]):
        for applications in (value_at(part, "applications") or [] for part in parse_documents(text, "serveConfigV2")):
            names += [str(name) for name in (value_at(one, "args.config") for one in applications) if name]
    for name in names:
        relative = Path(name.removeprefix(IMAGE_ROOT))
        for folder in (Path.cwd(), *file.resolve().parents):
            if (folder / relative).is_file():
                yield load_work(folder / relative, overrides)
                break


def _replica_request(model: Any) -> ResourceRequest:
    """The resources of the replicas that a model starts with."""
    replicas = model.replicas
    options = replicas.autoscaling_config or {}
    count = int(replicas.num_replicas if replicas.num_replicas is not None else options.get("min_replicas", 1))
    amounts = {"CPU": replicas.num_cpus, "GPU": model.gpus_per_replica}
    return ResourceRequest(count, {name: value for name, value in amounts.items() if value} | replicas.resources)
