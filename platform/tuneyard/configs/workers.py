"""WorkersConfig: number, resources and placement of a run's Ray Train workers."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tuneyard.core.resources import ACCELERATOR, GIB, ResourceRequest
from tuneyard.core.strict_model import StrictConfig

ACCELERATOR_SHARE = 0.001
"""Amount of the accelerator resource that Ray requests for one process with `accelerator_type`. A node has 1 of it,
however many GPUs it has."""


class WorkersConfig(StrictConfig):
    """Number, resources and placement of the Ray Train workers."""

    num_workers: int = Field(default=1, ge=1)
    """Number of workers. With `use_gpu`, each worker uses one GPU."""

    min_workers: int | None = Field(default=None, ge=1)
    """Smallest number of workers of an elastic run: it continues with fewer workers when nodes are lost, and with more
    when nodes are added. An optimizer step takes the same rows whatever the number, so gradient_accumulation_steps ×
    num_workers must be a multiple of every number from min_workers to num_workers. null: always num_workers."""

    use_gpu: bool = False
    """Trains on GPUs, one per worker. false: trains on CPUs."""

    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs that Ray reserves for a worker."""

    memory_gib_per_worker: float | None = Field(default=None, gt=0)
    """Main memory that Ray reserves for a worker, in GiB. null: no reservation."""

    accelerator_type: str | None = None
    """GPU type that workers require, by Ray's name: H100, H200, B200, A100 and so on. null: any GPU; the memory that
    the run takes is then compared with the nodes' GPUs only if they are of one type."""

    resources_per_worker: dict[str, float] = Field(default_factory=dict)
    """Custom Ray resources that a worker reserves, by the names that nodes were started with, such as {train: 1}."""

    spread: bool = False
    """Distributes the workers over as many nodes as possible. false: over as few nodes as possible."""

    threads_per_worker: int | None = Field(default=1, ge=1)
    """PyTorch threads of a worker on a CPU. null keeps PyTorch's default."""

    wait_for_nodes: bool = False
    """If the cluster cannot hold the workers now, waits until its autoscaler adds nodes. false: refuses the run at
    once."""

    max_failures: int = Field(default=2, ge=0)
    """Number of worker failures after which the run is resumed from its last checkpoint. One more failure ends it. An
    error that another try would repeat, such as a loss that is not finite, ends the run at once."""

    @property
    def resource_request(self) -> ResourceRequest:
        """The Ray resources of the smallest worker group that the run accepts."""
        per_worker = {"CPU": self.cpus_per_worker}
        if self.use_gpu:
            per_worker["GPU"] = 1.0
        if self.memory_gib_per_worker is not None:
            per_worker["memory"] = self.memory_gib_per_worker * GIB
        if self.accelerator_type is not None:
            per_worker[f"{ACCELERATOR}{self.accelerator_type}"] = ACCELERATOR_SHARE
        return ResourceRequest(self.min_workers or self.num_workers, per_worker | self.resources_per_worker)

    @property
    def worker_counts(self) -> range:
        """The numbers of workers that the run may have, smallest first; empty if min_workers is too large."""
        return range(self.min_workers or self.num_workers, self.num_workers + 1)

    @model_validator(mode="after")
    def _check_accelerator_type(self) -> Self:
        if self.accelerator_type is not None and not self.use_gpu:
            raise ValueError(f"accelerator_type={self.accelerator_type} needs use_gpu: true")
        return self
