"""Which failures of workers are retried: those that another try may not have."""

from __future__ import annotations

from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy
from ray.train.v2.api.exceptions import TrainingFailedError

from tuneyard.core.errors import StorageError, TuneyardError


class WorkerFailurePolicy(DefaultFailurePolicy):
    """Ray Train's policy, but a TuneyardError of a worker ends the run at once, whatever `workers.max_failures` says.

    Such an error is of the config or the data: a loss that is not finite, files that a worker does not see. The next
    try would compute the same. A StorageError is retried, because an object store comes back.
    """

    def _is_retryable_error(self, training_failed_error: TrainingFailedError) -> bool:
        cause = worker_error(training_failed_error)
        if cause is not None and not isinstance(cause, StorageError):
            return False
        return bool(super()._is_retryable_error(training_failed_error))


def worker_error(error: TrainingFailedError) -> TuneyardError | None:
    """The TuneyardError that a worker raised, if any did."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, TuneyardError):
                return cause
            cause = getattr(cause, "cause", None) or cause.__cause__
    return None
