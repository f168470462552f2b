"""Packing: several training rows in one row of a fixed number of tokens, chosen by best fit."""

from __future__ import annotations

import bisect
from collections.abc import Sequence


def pack_best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """The indices of `lengths` in packs of at most `capacity` tokens; each index is in exactly one pack.

    Best-fit decreasing (Johnson 1974): the longest row first, each into the fullest pack that has space for it. Packs
    are ordered by their first row. Raises ValueError for a length over the capacity.
    """
    packs: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (free tokens, pack), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if length > capacity:
            raise ValueError(f"a row of {length} tokens does not fit in a pack of {capacity}")
        position = bisect.bisect_left(free, (length, -1))
        if position == len(free):
            tokens, pack = capacity, len(packs)
            packs.append([])
        else:
            tokens, pack = free.pop(position)
        packs[pack].append(index)
        bisect.insort(free, (tokens - length, pack))
    return sorted((sorted(pack) for pack in packs), key=lambda pack: pack[0])


def packing_efficiency(lengths: Sequence[int], capacity: int) -> float:
    """The share of all packs' tokens that rows fill, 0 to 1; 1 if there are no rows."""
    packs = pack_best_fit(lengths, capacity)
    return sum(lengths) / (len(packs) * capacity) if packs else 1.0
