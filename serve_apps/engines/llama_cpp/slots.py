"""Slots of llama.cpp: which request gets which, so that it finds the beginning of its prompt in the slot's KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Slot:
    """A place for one running request, with a KV cache of its own."""

    slot_id: int
    token_ids: Sequence[int] = ()
    """Tokens whose keys and values its cache holds, as far as this process knows."""


class SlotPool:
    """The slots that no request uses, least recently used first."""

    def __init__(self, count: int) -> None:
        self._free = [Slot(slot_id) for slot_id in range(count)]

    def take(self, prompt: Sequence[int]) -> Slot | None:
        """The free slot whose cache has the longest beginning of the prompt; None if none is free.

        Among equal ones, it is the slot that was unused for longest.
        """
        if not self._free:
            return None
        slot = max(self._free, key=lambda free: _common_length(free.token_ids, prompt))
        self._free.remove(slot)
        return slot

    def give_back(self, slot: Slot, token_ids: Sequence[int]) -> None:
        """Frees a slot, whose cache now holds `token_ids`."""
        slot.token_ids = token_ids
        self._free.append(slot)


def _common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """The length of the longest common beginning."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
