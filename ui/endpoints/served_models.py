"""Models and the endpoints that serve them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServedModel:
    """A model and the endpoint that serves it."""

    model_id: str
    base_url: str

    @property
    def key(self) -> str:
        """Base URL and model id in one string, for a dropdown's value."""
        return f"{self.base_url} {self.model_id}"

    @classmethod
    def from_key(cls, key: str) -> ServedModel:
        base_url, _, model_id = key.partition(" ")
        return cls(model_id, base_url)


@dataclass(frozen=True)
class ModelListing:
    """The models served, in the order of the base URLs, and one sentence for each endpoint that failed."""

    models: tuple[ServedModel, ...]
    problems: tuple[str, ...]
