"""PlatformConfig: OpenAI's fine-tuning API on this cluster: where its files and records are, and their limits."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from tuneyard.configs.experiment_tracking import WandbServerConfig
from tuneyard.configs.platform_api.base_models import PlatformBaseConfig
from tuneyard.configs.platform_api.batch_limits import BatchLimits
from tuneyard.core.path_fields import AbsolutePath
from tuneyard.core.strict_model import StrictConfig
from tuneyard.storage.location import StorageLocation


class PlatformConfig(StrictConfig):
    """OpenAI's fine-tuning API: files, uploads, fine-tuning jobs, batches and evals, beside the models at one /v1."""

    path: AbsolutePath = Field(default=Path("$TUNEYARD_HOME/platform.db"), validate_default=True)
    """The SQLite file of all records, if the deployment has no `database`. It is for a cluster of one node."""

    files: StorageLocation = Field(default="$TUNEYARD_HOME/platform/files", validate_default=True)
    """Folder of the content of uploaded files and of results, or a URI of an object store. Every node that serves must
    reach it."""

    max_file_mib: float = Field(default=512.0, gt=0)
    """Mebibytes of a file that is sent in one request. 512 is OpenAI's limit. Larger files come in parts, by
    /v1/uploads."""

    max_part_mib: float = Field(default=64.0, gt=0)
    """Mebibytes of one part of an upload. 64 is OpenAI's limit."""

    max_upload_gib: float = Field(default=8.0, gt=0)
    """Gibibytes of a file that is uploaded in parts. 8 is OpenAI's limit."""

    upload_expiry_hours: float = Field(default=1.0, gt=0)
    """Hours after which an upload that was not completed expires, and its parts are deleted. 1 is OpenAI's."""

    max_gib_per_key: float = Field(default=100.0, gt=0)
    """Gibibytes that the files and parts of one API key may take."""

    max_concurrent_uploads: int = Field(default=8, ge=1)
    """Files and parts that one replica receives at the same time. Further ones are answered with status 503, and
    clients retry."""

    max_active_jobs_per_key: int | None = Field(default=3, ge=1)
    """Fine-tuning jobs of one API key that have not ended; further ones are refused. null: no limit."""

    max_running_jobs: int = Field(default=1, ge=1)
    """Fine-tuning jobs that train at the same time. The others wait, in turn between the keys."""

    bases: dict[str, PlatformBaseConfig] = Field(default_factory=dict)
    """The bases that fine-tuning jobs may name, each by its name."""

    batches: BatchLimits = BatchLimits()
    """Limits of /v1/batches."""

    wandb: WandbServerConfig | None = None
    """Lets jobs ask for the integration `wandb`: their metrics and settings go to Weights & Biases, with its API key in
    the environment variable WANDB_API_KEY where the deployment is started. The jobs of all keys use that account. It
    needs the extra `wandb` on every node. null: the integration is refused."""

    organization: str = Field(default="tuneyard", pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")
    """The organization in the names of tuned models, `ft:BASE:ORGANIZATION:SUFFIX:ID`."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [name for base, config in self.bases.items() for name in (base, *config.aliases)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"bases: the name {repeated[0]!r} is used more than once. Give each base its own names")
        return self
