"""ModelHost: what serves tuned models; and ModelFiles: where their versions and files are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from serve_apps.platform_app.tuned_models.model_record import ModelRecord


@dataclass(frozen=True, slots=True)
class ServedFacts:
    """What is known of a model once it is served: the tokens of its context, and the headers of its answers."""

    max_model_len: int
    headers: Mapping[str, str]


class ModelHost(Protocol):
    """Serves tuned models, each as an application of its own, named by the model's id.

    All methods raise ClusterError if the cluster does not answer; each may be repeated.
    """

    async def start(self, model: ModelRecord) -> ServedFacts:
        """Proves the checkpoint and serves it. Returns once requests are answered, or wait for the first replica.

        An application that is there already stays, unless it failed. Raises what deployment.check_model raises.
        """

    async def remove(self, model_id: str) -> None:
        """Stops serving a model; answers that have begun end first. Does nothing if it is not served."""

    async def running(self) -> set[str]:
        """The ids of all models that have an application, whether it works or not."""


class ModelFiles(Protocol):
    """The registered version of a tuned model, and its files. Each method may be repeated.

    All raise RegistryError or StorageError if registry or storage do not answer.
    """

    async def aliases(self, reference: str) -> Sequence[str]:
        """The aliases, without the one that every run sets, that hold the version `name/version`, or any of `name`."""

    async def delete(self, model_id: str, folder: str) -> None:
        """Deletes the versions first, then all files below the folder."""

    async def delete_version(self, version: str, folder: str) -> None:
        """Deletes one version, `name/version`, and then all files below the folder."""
