"""Ray's TorchTrainer without those of its actors that have nothing to do here.

Each would be one more process that wakes a hundred times a second, on a small machine on the workers' cores. What is
left out is private to Ray Train: pyproject.toml holds Ray to the release it was read in, and a test sees what runs.
"""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

from tuneyard.cluster.private_ray import is_private_ray

FOR_DATASETS = "DatasetsCallback"
"""Hands out Ray's own datasets; no job here has one."""

FOR_DEAD_CONTROLLERS = "PlacementGroupCleanerCallback"
"""Frees the workers' places when the controller died; a private Ray ends with the driver."""


class LeanTrainer(TorchTrainer):
    """TorchTrainer with the actors that the job needs."""

    def _create_default_callbacks(self) -> list[Any]:
        unused = {FOR_DATASETS, FOR_DEAD_CONTROLLERS} if is_private_ray() else {FOR_DATASETS}
        return [callback for callback in super()._create_default_callbacks() if type(callback).__name__ not in unused]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        if is_private_ray() and type(parts["scaling_policy"]) is FixedScalingPolicy:
            parts["scaling_policy"] = _NothingToScale(self.scaling_config)
        return super()._initialize_and_run_controller(**parts)


class _NothingToScale(FixedScalingPolicy):
    """FixedScalingPolicy that asks no autoscaler for nodes: a private Ray has none."""

    def _maybe_send_resource_request(self) -> None:
        pass

    def _send_resource_request(self) -> None:
        pass

    def _cancel_resource_request(self) -> None:
        pass
