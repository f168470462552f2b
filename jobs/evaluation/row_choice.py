"""Which rows of a file are asked when a limit is given."""

from __future__ import annotations


def spread_rows(size: int, limit: int) -> list[int]:
    """The numbers of up to `limit` (at least 1) of `size` rows, spread evenly, in their order."""
    return [i * size // limit for i in range(limit)] if limit < size else list(range(size))
