"""LeanTrainer: Ray's TorchTrainer without the actors that Tuneyard's jobs do not use, and with its failure policy.

Each such actor is one more process that wakes up a hundred times a second, and on a small machine it competes with the
workers for cores. LeanTrainer overrides private methods of Ray Train: pyproject.toml pins Ray to the release whose
source they were read in, and a test compares the actors that run.
"""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

from jobs.workers.failure_policy import WorkerFailurePolicy
from tuneyard.cluster.private_ray import is_private_ray

DATASETS_CALLBACK = "DatasetsCallback"
"""Distributes Ray Data datasets to workers. Tuneyard's jobs use none."""

PLACEMENT_GROUP_CALLBACK = "PlacementGroupCleanerCallback"
"""Frees the workers' placement group when the controller has died. A private Ray ends with the driver anyway."""


class LeanTrainer(TorchTrainer):
    """A TorchTrainer that starts only the actors that Tuneyard's jobs need."""

    def _create_default_callbacks(self) -> list[Any]:
        unused = {DATASETS_CALLBACK, PLACEMENT_GROUP_CALLBACK} if is_private_ray() else {DATASETS_CALLBACK}
        return [callback for callback in super()._create_default_callbacks() if type(callback).__name__ not in unused]

    def _initialize_and_run_controller(self, **controller_arguments: Any) -> Any:
        if is_private_ray() and type(controller_arguments["scaling_policy"]) is FixedScalingPolicy:
            controller_arguments["scaling_policy"] = _NoAutoscalerPolicy(self.scaling_config)
        controller_arguments["failure_policy"] = WorkerFailurePolicy(self.run_config.failure_config)
        return super()._initialize_and_run_controller(**controller_arguments)


class _NoAutoscalerPolicy(FixedScalingPolicy):
    """A FixedScalingPolicy that sends no requests to an autoscaler, because a private Ray has none."""

    def _maybe_send_resource_request(self) -> None:
        pass

    def _send_resource_request(self) -> None:
        pass

    def _cancel_resource_request(self) -> None:
        pass
