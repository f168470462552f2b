"""The GPU type that a run's workers get where its config names none: that of the nodes that can hold them."""

from __future__ import annotations

from collections.abc import Sequence

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.workers import WorkersConfig
from tuneyard.core.resources import ACCELERATOR, ResourceRequest, Resources, describe_shortages


def with_gpu_type(config: FinetuneConfig, name: str | None) -> FinetuneConfig:
    """The config with `workers.accelerator_type` set to `name`, if the run is on GPUs and names no type itself."""
    workers = config.workers
    if name is None or workers.accelerator_type is not None or not workers.use_gpu:
        return config
    return config.model_copy(update={"workers": workers.model_copy(update={"accelerator_type": name})})


def cluster_gpu_types(workers: WorkersConfig) -> list[str]:
    """See gpu_types, for the nodes of the connected cluster that are alive."""
    import ray

    return gpu_types(workers, [node["Resources"] for node in ray.nodes() if node["Alive"]])


def gpu_types(workers: WorkersConfig, nodes: Sequence[Resources]) -> list[str]:
    """The GPU types, by Ray's names, of the nodes that can hold a worker, sorted.

    "unknown" stands for nodes whose type Ray does not see. Nodes that an autoscaler may add are not among them.
    """
    worker = ResourceRequest(1, workers.resource_request.per_process)
    fitting = [node for node in nodes if not describe_shortages([worker], [node])]
    return sorted({_gpu_type(node) for node in fitting})


def _gpu_type(node: Resources) -> str:
    names = [name.removeprefix(ACCELERATOR) for name, amount in node.items() if name.startswith(ACCELERATOR) and amount]
    return names[0] if len(names) == 1 else "unknown"
