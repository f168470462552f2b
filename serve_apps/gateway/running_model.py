"""RunningModel: a model that a gateway can call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_apps.api.model_calls import ModelDescription


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A model's Serve application, what it serves, and the handle to call it."""

    application: str
    description: ModelDescription
    handle: DeploymentHandle[Any]
    owner: str | None = None
    """See keys.model_scope.owner_digest; None for a model that every key may use whose `models` allow it."""
    owned_by: str = "tuneyard"
    """OpenAI's field: the organization that has the model."""

    @property
    def label(self) -> str:
        """The name in metrics, which everybody can read: the id of an owner's model would show the owner's words."""
        return self.description.model_id if self.owner is None else self.application
