"""Lines of a text file, decoded one at a time; a line that is not UTF-8 becomes a RawRow with the problem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from tuneyard.chats.readers.raw_row import RawRow

CHUNK_BYTES = 1 << 20

MAX_LINE_BYTES = 1 << 30
"""Longest line: a row is parsed as a whole, in memory."""


class ByteStream(Protocol):
    """What the readers need of a file: its next bytes; b"" at its end."""

    def read(self, size: int = -1, /) -> bytes: ...


def read_lines(stream: ByteStream, max_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes | None]:
    """The lines of a stream, without their ends; None for a line with more than `max_bytes` bytes.

    Takes time in proportion to the bytes, however long the lines are.
    """
    pieces: list[bytes] = []
    size = 0

    def line() -> bytes | None:
        return b"".join(pieces) if size <= max_bytes else None

    while chunk := stream.read(CHUNK_BYTES):
        first, *others = chunk.split(b"\n")
        size += len(first)
        if size <= max_bytes:
            pieces.append(first)
        else:
            pieces.clear()
        if others:
            yield line()
            yield from others[:-1]
            pieces, size = [others[-1]], len(others[-1])
    if size:
        yield line()


def decode_lines(lines: Iterable[bytes | None], name: str) -> Iterator[tuple[int, str | RawRow]]:
    """The number of each line of the file `name`, from 1, with its text or its problem. Skips a byte order mark."""
    for number, line in enumerate(lines, start=1):
        if line is None:
            limit = f"the line has more than {MAX_LINE_BYTES >> 20:,} MiB, the limit for one row."
            yield number, RawRow(f"{name}:{number}", problem=f"{limit} Write one chat per line.")
            continue
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as e:
            yield number, RawRow(f"{name}:{number}", problem=not_utf8(line[e.start], name))


def not_utf8(byte: int, name: str) -> str:
    """The problem of a file that holds `byte` where no UTF-8 text can hold it, with the command that converts it."""
    # Latin-1 has control characters where windows-1252 has quotes and dashes.
    encoding = "windows-1252" if 0x80 <= byte <= 0x9F else "latin1"
    return f"not UTF-8: byte 0x{byte:02x}. Convert it: iconv -f {encoding} -t utf-8 {name}"
