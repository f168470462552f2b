"""ReplicaConfig: number, resources, queues and timeouts of a model's replicas."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from tuneyard.core.strict_model import StrictConfig

AUTOSCALING_DEFAULTS = {
    # Ray Serve's default of 10 s lets a queue build up for that long, and a start from zero replicas takes 5 times as
    # long with it.
    "metrics_interval_s": 1.0,
    "look_back_period_s": 5.0,
    "upscale_delay_s": 5.0,
    # Loading a model takes minutes, so a replica stays through a pause in traffic.
    "downscale_delay_s": 300.0,
}
"""Values of Ray Serve's AutoscalingConfig that differ from Ray Serve's own defaults."""


class ReplicaConfig(StrictConfig):
    """Number, resources, queues and timeouts of a model's replicas. Ray Serve's fields keep their names."""

    num_replicas: int | None = Field(default=1, ge=0)
    """Fixed number of replicas. null: `autoscaling_config` decides."""

    autoscaling_config: dict[str, Any] | None = None
    """Ray Serve's AutoscalingConfig: min_replicas (0 allows scaling to zero), max_replicas, target_ongoing_requests and
    so on. Tuneyard's defaults are metrics_interval_s 1, look_back_period_s 5, upscale_delay_s 5 and
    downscale_delay_s 300; all others are Ray Serve's. Requires `num_replicas: null`. null: no autoscaling."""

    num_cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray reserves for a replica."""

    num_gpus: float | None = Field(default=None, ge=0)
    """GPUs of a replica. null: those that its engine requires, which is none for the transformers engine."""

    resources: dict[str, float] = Field(default_factory=dict)
    """Custom Ray resources that a replica reserves, by the names that nodes were started with, such as {serve: 1}."""

    max_ongoing_requests: int = Field(default=64, ge=1)
    """The largest batch of a replica's engine. A replica takes so many requests and `max_queued_requests` more, which
    wait until the engine runs them."""

    max_queued_requests: int = Field(default=256, ge=-1)
    """Requests that may wait in each replica, where a stream is open while it waits; and as many in Ray Serve's queue,
    while no replica has room or none runs. Further requests are answered with status 503. -1: no limit."""

    answer_timeout_s: float | None = Field(default=600.0, gt=0)
    """Seconds that a request may take in a replica, including the time it waits for the engine. Then it is aborted and
    answered with status 504, or with an error event in a stream that has begun. null: no limit."""

    graceful_shutdown_timeout_s: float = Field(default=630.0, ge=0)
    """Seconds that a replica may take to finish its streams before it is stopped. Must not be shorter than
    answer_timeout_s."""

    health_check_period_s: float = Field(default=5.0, gt=0)
    """Seconds between two health checks of a replica."""

    health_check_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds after which a health check without an answer counts as failed."""

    def autoscaling(self) -> dict[str, Any] | None:
        """`autoscaling_config` with Tuneyard's defaults; None without autoscaling."""
        return None if self.autoscaling_config is None else AUTOSCALING_DEFAULTS | self.autoscaling_config

    def scaled_to_zero(self) -> ReplicaConfig:
        """The same replicas, of which none runs until a request comes, and no more than here."""
        autoscaling = dict(self.autoscaling_config or {"max_replicas": max(1, self.num_replicas or 0)})
        autoscaling.pop("initial_replicas", None)
        fields = {"num_replicas": None, "autoscaling_config": autoscaling | {"min_replicas": 0}}
        return ReplicaConfig.model_validate(self.model_dump() | fields)

    @model_validator(mode="after")
    def _check_timeouts_and_number(self) -> Self:
        longest = self.answer_timeout_s
        if longest is not None and longest > self.graceful_shutdown_timeout_s:
            raise ValueError(
                f"answer_timeout_s={longest:g} is longer than graceful_shutdown_timeout_s="
                f"{self.graceful_shutdown_timeout_s:g}, so a replica that stops would cut off answers. Raise "
                "graceful_shutdown_timeout_s"
            )
        if (self.num_replicas is None) == (self.autoscaling_config is None):
            raise ValueError(
                f"give either num_replicas (found {self.num_replicas}) or autoscaling_config "
                f"(found {self.autoscaling_config}), the latter with num_replicas: null"
            )
        return self
