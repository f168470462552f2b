"""Lines of a text file, decoded one at a time; a line that is not UTF-8 becomes a RawRow with the problem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tuneyard.chats.readers.raw_row import RawRow

CHUNK_BYTES = 1 << 20


def read_lines(stream: Any) -> Iterator[bytes]:
    """The lines of a binary stream, without their ends."""
    rest = b""
    while chunk := stream.read(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def decode_lines(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, str | RawRow]]:
    """The number of each line of the file `name`, from 1, with its text or its problem. Skips a byte order mark."""
    for number, line in enumerate(lines, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as e:
            problem = f"not UTF-8: byte 0x{line[e.start]:02x}. Convert it: iconv -f latin1 -t utf-8 {name}"
            yield number, RawRow(f"{name}:{number}", problem=problem)
