"""Rows into packs of a fixed capacity, best fit."""

from __future__ import annotations

import bisect
from collections.abc import Sequence


def pack_best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of `lengths` in packs of at most `capacity` tokens: longest first, each into the fullest pack it fits.

    Best-fit decreasing (Johnson 1974). Every index occurs once, packs in the order of their first row.
    Raises ValueError for a length over the capacity.
    """
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, pack), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if length > capacity:
            raise ValueError(f"a row of {length} tokens does not fit a pack of {capacity}")
        at = bisect.bisect_left(room, (length, -1))
        if at == len(room):
            left, pack = capacity, len(packs)
            packs.append([])
        else:
            left, pack = room.pop(at)
        packs[pack].append(index)
        bisect.insort(room, (left - length, pack))
    return sorted((sorted(pack) for pack in packs), key=lambda pack: pack[0])


def packing_efficiency(lengths: Sequence[int], capacity: int) -> float:
    """Share of the packs' places that hold a token, 0 to 1; 1 for no rows."""
    packs = pack_best_fit(lengths, capacity)
    return sum(lengths) / (len(packs) * capacity) if packs else 1.0
