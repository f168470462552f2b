"""Pydantic base models that refuse unknown fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Refuses unknown fields. A docstring under a field describes it in the schema."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class FrozenModel(StrictModel):
    """Refuses unknown fields, and changes after loading."""

    model_config = ConfigDict(frozen=True)
