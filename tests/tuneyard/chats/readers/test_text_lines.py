"""Lines of a file: the same however it arrives in chunks, of any length; other encodings are named."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.chats.readers.text_lines import decode_lines, read_lines


class Chunks:
    """A stream that gives its data in pieces, whatever is asked for."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def read(self, _size: int = -1, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@given(pieces=st.lists(st.lists(st.sampled_from([b"a", b"\n", b"\r", "é".encode()]), max_size=6).map(b"".join)))
def test_lines_do_not_depend_on_the_chunks(pieces: list[bytes]) -> None:
    expected = b"".join(pieces).split(b"\n")
    assert list(read_lines(Chunks(pieces))) == (expected if expected[-1] else expected[:-1])


def test_a_line_of_many_chunks_is_read_whole() -> None:
    line = b"x" * (128 << 20)
    assert [len(read or b"") for read in read_lines(io.BytesIO(b"a\n" + line + b"\nb"))] == [1, len(line), 1]


@given(pieces=st.lists(st.binary(max_size=9)), limit=st.integers(1, 12))
def test_a_line_over_the_limit_is_no_line_and_the_others_stay(pieces: list[bytes], limit: int) -> None:
    whole = list(read_lines(Chunks(pieces)))
    limited = list(read_lines(Chunks(pieces), limit))
    assert limited == [line if line is not None and len(line) <= limit else None for line in whole]


def test_a_line_over_the_limit_and_other_encodings_are_problems_with_the_fix() -> None:
    lines = list(decode_lines([None, b"caf\xe9", b"\x93hi\x94", "\u00e9".encode()], "c.jsonl"))
    problems = [row.problem for _, row in lines if isinstance(row, RawRow)]
    assert problems == [
        "the line has more than 1,024 MiB, the limit for one row. Write one chat per line.",
        "not UTF-8: byte 0xe9. Convert it: iconv -f latin1 -t utf-8 c.jsonl",
        "not UTF-8: byte 0x93. Convert it: iconv -f windows-1252 -t utf-8 c.jsonl",
    ]
    assert lines[3] == (4, "é")
