"""What the checks of a dataset keep of earlier rows: a compact table of hashes, and the numbers of the rows."""

from __future__ import annotations

import re
from array import array

_NUMBER = re.compile(r"[0-9]+(?=[^0-9]*$)")
_MAX_LOAD = 0.6
_MASK = (1 << 64) - 1


class HashTable:
    """A map of 64-bit keys to 64-bit values in two flat arrays, at most 54 bytes per key; keys are hashes."""

    def __init__(self) -> None:
        self._allocate(1 << 10)

    def _allocate(self, slots: int) -> None:
        self._count, self._limit = 0, int(slots * _MAX_LOAD)
        self._keys, self._values = array("Q", bytes(8 * slots)), array("Q", bytes(8 * slots))

    def get_or_add(self, key: int, value: int) -> int | None:
        """The value of the key; None if the key is new, and then it has `value` from now on. 0 is no key."""
        keys = self._keys
        mask = len(keys) - 1
        slot = key & mask
        while (found := keys[slot]) != key:
            if not found:
                keys[slot] = key
                self._values[slot] = value
                self._count += 1
                if self._count > self._limit:
                    self._grow()
                return None
            slot = slot + 1 & mask
        return self._values[slot]

    def _grow(self) -> None:
        old_keys, old_values = self._keys, self._values
        self._allocate(2 * len(old_keys))
        keys, values = self._keys, self._values
        mask = len(keys) - 1
        for key, value in zip(old_keys, old_values, strict=True):
            if key:
                slot = key & mask
                while keys[slot]:
                    slot = slot + 1 & mask
                keys[slot] = key
                values[slot] = value
                self._count += 1


def table_key(value: object) -> int:
    """A key of HashTable for a hashable value.

    It is Python's own hash, which differs from process to process: keys never leave this process.
    """
    return hash(value) & _MASK or 1


def row_number(source: str) -> int:
    """The number of the row or line in a source such as `chats.jsonl:17` or `chats.json[17]`; 0 without one."""
    try:
        return int(source.rpartition(":")[2])
    except ValueError:
        match = _NUMBER.search(source)
        return int(match.group()) if match else 0
