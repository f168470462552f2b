"""OwnedModels: where a gateway finds the models that belong to one API key, which no other key can see."""

from __future__ import annotations

from typing import Protocol

from serve_apps.gateway.running_model import RunningModel

OWNED_APPLICATION_PREFIX = "ftjob-"
"""Begins the names of the Serve applications of such models. A gateway does not ask them what they serve: the question
would start a replica of a model that has none, because it is not used."""


class OwnedModels(Protocol):
    """The models of each owner. Both methods see only those of `owner`, and answer also while a model has no replica.

    They raise StoreUnavailableError if it is not known which models there are.
    """

    async def find(self, owner: str, name: str) -> RunningModel | None:
        """The owner's model of that id or version; None if there is none."""

    async def of_owner(self, owner: str) -> list[RunningModel]:
        """All models of the owner, oldest first."""


class NoOwnedModels:
    """A gateway without models of single owners."""

    async def find(self, owner: str, name: str) -> RunningModel | None:  # noqa: ARG002  # see OwnedModels
        """None."""
        return None

    async def of_owner(self, owner: str) -> list[RunningModel]:  # noqa: ARG002  # see OwnedModels
        """No model."""
        return []
