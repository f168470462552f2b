"""Metadata: what a client attaches to an object."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
"""Up to 16 pairs of a key and a value. They are stored and given back, and change nothing else."""
