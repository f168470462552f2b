"""build_fine_tuning: the parts of jobs and of tuned models; and TuningCluster, what they need of a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.fine_tuning.execution.cluster_capacity import CapacityReader
from serve_apps.platform_app.fine_tuning.execution.job_runner import JobRunner
from serve_apps.platform_app.fine_tuning.execution.ray_capacity import RayCapacity
from serve_apps.platform_app.fine_tuning.execution.ray_job_runner import RayJobRunner
from serve_apps.platform_app.fine_tuning.execution.registry_run_records import RegistryRunRecords
from serve_apps.platform_app.fine_tuning.execution.run_records import RunRecords
from serve_apps.platform_app.fine_tuning.job_steps import JobServices
from serve_apps.platform_app.fine_tuning.part import FineTuningPart
from serve_apps.platform_app.fine_tuning.records.job_store import JobStore
from serve_apps.platform_app.fine_tuning.settings.bases import Bases
from serve_apps.platform_app.fine_tuning.settings.file_checks import FileChecker, ProcessFileChecker
from serve_apps.platform_app.part import Part
from serve_apps.platform_app.tuned_models.model_host import ModelFiles, ModelHost
from serve_apps.platform_app.tuned_models.model_store import ModelStore
from serve_apps.platform_app.tuned_models.part import TunedModelsPart
from serve_apps.platform_app.tuned_models.registry_model_files import RegistryModelFiles
from serve_apps.platform_app.tuned_models.serve_model_host import ServeModelHost


@dataclass(frozen=True, slots=True)
class TuningCluster:
    """What checks files, runs jobs, and serves and keeps what they made."""

    checker: FileChecker
    capacity: CapacityReader
    runner: JobRunner
    records: RunRecords
    host: ModelHost
    model_files: ModelFiles

    @classmethod
    def of_this_process(cls, context: PlatformContext) -> Self:
        """Ray's jobs, Ray Serve and the model registry, of the cluster that this process is part of."""
        files = RegistryModelFiles()
        return cls(
            ProcessFileChecker(),
            RayCapacity(),
            RayJobRunner(context.job_variables),
            RegistryRunRecords(files.registry),
            ServeModelHost(context.config.bases, context.access),
            files,
        )


def build_fine_tuning(
    context: PlatformContext, cluster: TuningCluster, now: Callable[[], float] = time.time
) -> list[Part]:
    """The two parts, for one process. Raises ConfigError for a base whose template is no valid config."""
    models = ModelStore(context.database)
    services = JobServices(
        jobs=JobStore(context.database, now),
        models=models,
        files=context.files,
        bases=Bases(context.config),
        checker=cluster.checker,
        capacity=cluster.capacity,
        runner=cluster.runner,
        records=cluster.records,
        host=cluster.host,
        model_files=cluster.model_files,
        organization=context.config.organization,
        wandb=context.config.wandb,
        now=now,
    )
    return [
        FineTuningPart(context, services),
        TunedModelsPart(context, models, cluster.host, cluster.model_files, services.jobs.going_on_from),
    ]
