"""Code for other GPUs is emptied, and nothing else of the file changes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.bare_machine.one_architecture import CONTAINER, ELF, MAGIC, keep_one_architecture

HEADER = 64
ENTRIES = st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([75, 80, 90, 100]), st.binary(min_size=1)))


def container(entries: list[tuple[int, int, bytes]]) -> bytes:
    parts = []
    for kind, architecture, content in entries:
        header = struct.pack("<HHIQ12xI", kind, 0x101, HEADER, len(content), architecture)
        parts.append(header.ljust(HEADER, b"\1") + content)
    return CONTAINER.pack(MAGIC, 1, CONTAINER.size, sum(map(len, parts))) + b"".join(parts)


@given(st.binary(), st.lists(ENTRIES, max_size=3), st.binary())
def test_only_other_architectures_are_emptied(
    before: bytes, containers: list[list[tuple[int, int, bytes]]], after: bytes
) -> None:
    magic = struct.pack("<I", MAGIC)
    before, after = before.replace(magic, b""), after.replace(magic, b"")
    kept = [[(k, a, c if k == ELF and a == 90 else bytes(len(c))) for k, a, c in entries] for entries in containers]
    library = bytearray(before + b"".join(map(container, containers)) + after)
    zeroed = keep_one_architecture(library, 90)
    assert library == before + b"".join(map(container, kept)) + after
    assert zeroed == sum(len(c) for entries in containers for k, a, c in entries if not (k == ELF and a == 90))


@given(st.binary(max_size=64))
def test_what_is_no_container_is_left_alone(garbage: bytes) -> None:
    """Also a magic number in front of it: then version and sizes decide."""
    library = bytearray(struct.pack("<IHH", MAGIC, 2, 16) + garbage)
    before = bytes(library)
    keep_one_architecture(library, 90)
    assert library[:8] == before[:8]
    assert len(library) == len(before)
