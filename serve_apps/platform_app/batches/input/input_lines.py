"""Reads the lines of a file of any content in blocks, in memory that the longest allowed line bounds."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputLine:
    """A line of a file."""

    number: int
    """From 1."""
    content: bytes | None
    """Without its end; None if it is longer than allowed."""

    @property
    def is_blank(self) -> bool:
        """Whether it holds nothing but spaces."""
        return self.content is not None and not self.content.strip()


async def read_lines(blocks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[Iterator[InputLine]]:
    """The lines of a file whose content comes in blocks: for each block, those that end in it. Lines end with LF.

    Read each iterator to its end before the next one; it does not wait, so a thread may read it. Of a line of more than
    `max_bytes`, no more than that is kept, whatever its length.
    """
    splitter = LineSplitter(max_bytes)
    async for block in blocks:
        yield splitter.feed(block)
    yield splitter.end()


class LineSplitter:
    """Feed it the blocks of a file in order, then call `end`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._number = 1
        self._start = bytearray()
        """The beginning of the line that has not ended yet."""
        self._is_too_long = False

    def feed(self, block: bytes) -> Iterator[InputLine]:
        """The lines that end in the block. Read all of them before the next call."""
        *ends, rest = block.split(b"\n")
        for end in ends:
            self._append(end)
            yield self._finish()
        self._append(rest)

    def end(self) -> Iterator[InputLine]:
        """The last line, if the file does not end with LF."""
        if self._start or self._is_too_long:
            yield self._finish()

    def _append(self, part: bytes) -> None:
        if self._is_too_long or len(self._start) + len(part) > self._max_bytes:
            self._is_too_long = True
            self._start.clear()
        else:
            self._start += part

    def _finish(self) -> InputLine:
        content = bytes(self._start)
        if self._number == 1:
            content = content.removeprefix(codecs.BOM_UTF8)
        line = InputLine(self._number, None if self._is_too_long else content)
        self._number += 1
        self._start.clear()
        self._is_too_long = False
        return line
