"""Whether a job's workers fit on the cluster: with fewer workers, later, or never."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from serve_apps.platform_app.fine_tuning.execution.cluster_capacity import ClusterCapacity
from serve_apps.platform_app.fine_tuning.settings.bases import Base
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.workers import WorkersConfig
from tuneyard.core.resources import ResourceRequest, describe_shortages, process_capacity
from tuneyard.core.wording import count_of


def fit_workers(base: Base, batch_size: int, capacity: ClusterCapacity) -> tuple[Base, str]:
    """The base with as many workers as fit beside what is always served, and a sentence that says so.

    The number that is chosen divides `batch_size`, so a step has the same rows. The sentence is "" if all workers fit,
    or if fewer are not tried: workers with GPUs, and those of sharded, elastic or NeMo's runs, may each need their
    share of the model, and an autoscaler may add nodes.
    """
    workers = base.template.workers
    fitting = sum(process_capacity(workers.resource_request.per_process, node) for node in capacity.unserved)
    if not _may_be_fewer(base.template) or not 0 < fitting < workers.num_workers:
        return base, ""
    count = next(count for count in range(fitting, 0, -1) if batch_size % count == 0)
    fewer = workers.model_copy(update={"num_workers": count})
    template = base.template.model_copy(update={"workers": fewer})
    text = (
        f"{base.name} is trained by {count_of(workers.num_workers, 'worker')}, and {fitting} of them "
        f"fit{'s' if fitting == 1 else ''} beside what this cluster serves: the job has {count_of(count, 'worker')}. "
        "Its steps have the same rows and take longer."
    )
    return dataclasses.replace(base, template=template), text


def describe_impossibility(base: Base, capacity: ClusterCapacity) -> str:
    """Why the base's workers can never run on this cluster, in a sentence for the job's owner; "" if they can."""
    workers = base.template.workers
    nodes = capacity.total
    shortages = describe_shortages([workers.resource_request], nodes)
    if shortages and workers.wait_for_nodes:
        if capacity.maximum is None or not workers.resource_request.per_process.keys() <= capacity.maximum.keys():
            return ""  # the autoscaler does not name the labels of nodes, such as accelerator types
        shortages = describe_shortages([workers.resource_request], [capacity.maximum])
    if not shortages:
        return ""
    reach = "with all nodes that its autoscaler may add" if workers.wait_for_nodes else "as it is"
    return (
        f"{_needs(workers)} can never be placed on this cluster {reach}: {shortages}. Whoever runs it can add nodes, "
        f"or request less in `workers` of platform.bases.{base.name}."
    )


def describe_wait(workers: WorkersConfig, training: Sequence[ResourceRequest], capacity: ClusterCapacity) -> str:
    """Why the workers have to wait, in sentences for the job's owner; "" if they can run now.

    `training` is what the jobs request that train; some of it may not be reserved yet.
    """
    request = workers.resource_request
    if shortages := describe_shortages([request], capacity.total):
        return _wait(workers, shortages, "Its workers start when such nodes have joined the cluster.")
    if shortages := describe_shortages([request], capacity.unserved):
        return _wait(
            workers, shortages, "Models that are always served have the rest: the job begins when one is stopped."
        )
    if shortages := describe_shortages([*training, request], capacity.unserved):
        return _wait(workers, shortages, "The job begins when other jobs have ended.")
    if shortages := describe_shortages([request], capacity.free):
        return _wait(workers, shortages, "The job begins when other work on the cluster has ended.")
    return ""


def _wait(workers: WorkersConfig, shortages: str, until: str) -> str:
    return f"{_needs(workers)} cannot be placed now: {shortages}. {until}"


def _needs(workers: WorkersConfig) -> str:
    return f"The job with {count_of(workers.resource_request.count, 'worker')}"


def _may_be_fewer(template: FinetuneConfig) -> bool:
    workers, training = template.workers, template.training
    is_plain = training.backend == "transformers" and training.sharding == "none"
    return is_plain and not workers.use_gpu and workers.min_workers is None and not workers.wait_for_nodes
