"""LineSet: a set of line numbers, stored as ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class LineSet:
    """Numbers of the lines of one file. As text, `1-4,6`, it takes little room where few lines are missing."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._numbers = set(numbers)

    @classmethod
    def parse(cls, text: str) -> LineSet:
        """The set that `str` wrote."""
        numbers: set[int] = set()
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            numbers.update(range(int(first), int(last or first) + 1))
        return cls(numbers)

    def add(self, numbers: Iterable[int]) -> None:
        self._numbers.update(numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __str__(self) -> str:
        return ",".join(
            str(first) if first == last else f"{first}-{last}" for first, last in _ranges(sorted(self._numbers))
        )


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The first and last number of each run of consecutive numbers."""
    first = 0
    for index, number in enumerate(numbers):
        if index + 1 == len(numbers) or numbers[index + 1] != number + 1:
            yield numbers[first], number
            first = index + 1
