"""Lines are the same however a file is cut into blocks, and a long line needs no memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.platform_app.batches.input.input_lines import LineSplitter, read_lines
from tests.process_memory import PeakMemory

MAX_BYTES = 8


def split(content: bytes, cuts: list[int], max_bytes: int = MAX_BYTES) -> list[tuple[int, bytes | None]]:
    splitter = LineSplitter(max_bytes)
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    blocks = [content[begin:end] for begin, end in itertools.pairwise(edges)]
    lines = [line for block in blocks for line in splitter.feed(block)] + list(splitter.end())
    return [(line.number, line.content) for line in lines]


@given(st.binary(max_size=80).map(lambda data: data.replace(b"a", b"\n")), st.lists(st.integers(0, 100), max_size=6))
def test_blocks_do_not_matter(content: bytes, cuts: list[int]) -> None:
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    lines[:1] = [line.removeprefix(b"\xef\xbb\xbf") if len(line) <= MAX_BYTES else line for line in lines[:1]]
    expected = [(number, line if len(line) <= MAX_BYTES else None) for number, line in enumerate(lines, 1)]
    assert split(content, cuts) == expected


def test_a_byte_order_mark_and_blank_lines() -> None:
    splitter = LineSplitter(100)
    lines = [*splitter.feed(b'\xef\xbb\xbf{"a":1}\r\n \r\n\n{}'), *splitter.end()]
    assert [line.is_blank for line in lines] == [False, True, True, False]
    assert lines[0].content == b'{"a":1}\r'


async def _long_line(gib: float) -> AsyncIterator[bytes]:
    block = b"x" * 2**20
    for _ in range(int(gib * 2**10)):
        yield block
        await asyncio.sleep(0)
    yield b"\n{}\n"


async def test_a_line_of_two_gigabytes_needs_no_memory() -> None:
    memory = PeakMemory()
    found = [(line.number, line.content) async for lines in read_lines(_long_line(2.0), 4 * 2**20) for line in lines]
    assert found == [(1, None), (2, b"{}")]
    assert memory.stop() < 64 * 2**20
