"""Pydantic base models that reject unknown fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Rejects unknown fields. The docstring under a field becomes its description in the JSON schema."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class FrozenModel(StrictModel):
    """Rejects unknown fields, and assignments after validation."""

    model_config = ConfigDict(frozen=True)


class StrictConfig(FrozenModel):
    """Base of all config models: unknown fields are errors, and values cannot change after loading."""
