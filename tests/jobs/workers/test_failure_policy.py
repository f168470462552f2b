"""Which worker failures end a run at once, and which are retried."""

from __future__ import annotations

import pytest
import ray.train
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2.api.exceptions import WorkerGroupError

from jobs.workers.failure_policy import WorkerFailurePolicy
from tuneyard.core.errors import ClusterError, ConfigError, StorageError, TrainingError

NOT_FINITE = TrainingError("The loss is nan at step 3. Lower training.learning_rate.")


def _decision(error: Exception, max_failures: int = 2) -> FailureDecision:
    policy = WorkerFailurePolicy(ray.train.FailureConfig(max_failures=max_failures))
    return policy.make_decision(WorkerGroupError("workers failed", {0: RuntimeError("collateral"), 1: error}))


@pytest.mark.parametrize("error", [NOT_FINITE, ConfigError("x"), ClusterError("a worker does not see the folder")])
def test_an_error_that_would_come_again_ends_the_run(error: Exception) -> None:
    assert _decision(error) is FailureDecision.RAISE
    wrapped = RuntimeError("in a worker")
    wrapped.__cause__ = error
    assert _decision(wrapped) is FailureDecision.RAISE


@pytest.mark.parametrize("error", [RuntimeError("NCCL"), StorageError("503"), MemoryError()])
def test_an_error_by_chance_is_retried(error: Exception) -> None:
    assert _decision(error) is FailureDecision.RETRY
    assert _decision(error, max_failures=0) is FailureDecision.RAISE
