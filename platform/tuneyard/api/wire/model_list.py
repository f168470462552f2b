"""Answers of GET /v1/models."""

from __future__ import annotations

from typing import Literal

from tuneyard.api.wire.base import WireModel


class ModelCard(WireModel):
    """A served model. `max_model_len` is its context length in tokens (vLLM's field name)."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tuneyard"
    max_model_len: int


class ModelList(WireModel):
    """All models that the caller may use."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
