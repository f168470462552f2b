"""Reasoning effort as requests name it: OpenAI's levels, each as the nearest one that the prompt format has."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from tuneyard.harmony.settings import ReasoningEffort

NEAREST_EFFORTS: dict[str, ReasoningEffort] = {"none": "low", "minimal": "low", "xhigh": "high"}
"""OpenAI's levels that harmony does not have, and the nearest that it has. GPT-OSS always reasons, so none is low."""


def nearest_effort(value: Any) -> Any:
    """Harmony's level for one of OpenAI's; any other value unchanged."""
    return NEAREST_EFFORTS.get(value, value) if isinstance(value, str) else value


RequestedEffort = Annotated[
    ReasoningEffort,
    BeforeValidator(nearest_effort),
    WithJsonSchema({"type": "string", "enum": ["none", "minimal", "low", "medium", "high", "xhigh"]}),
]
"""A request's reasoning effort; after validation it is one of harmony's levels."""
