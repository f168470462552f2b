"""Empties a CUDA library's code for all GPUs but one, so that it compresses to a fraction.

    python -m tests.bare_machine.one_architecture libtransformer_engine.so 90

The file keeps its size and its layout. The fat binaries in it are lists of entries, each with machine code (ELF) or PTX
for one architecture; CUDA's loader reads only the entry of its GPU. The layout is not documented by NVIDIA: it is what
`cuobjdump` shows and several open readers parse, and what is not of that form is left as it is.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

CONTAINER = struct.Struct("<IHHQ")
"""Magic number, version, size of this header, size of all entries."""

ENTRY = struct.Struct("<HHIQ")
"""Kind (1: PTX, 2: ELF), version, size of this header, size of the content. The architecture is 28 bytes behind."""

MAGIC, KINDS, ELF = 0xBA55ED50, (1, 2), 2
ARCHITECTURE_OFFSET, SMALLEST_HEADER = 28, 32


def keep_one_architecture(library: bytearray, architecture: int) -> int:
    """Zeroes the content of all entries but machine code for `architecture` (90: Hopper). Returns the bytes zeroed."""
    zeroed = place = 0
    while (place := library.find(struct.pack("<I", MAGIC), place)) >= 0:
        end_of_header = place + CONTAINER.size
        if end_of_header > len(library):
            break
        _, version, header_size, size = CONTAINER.unpack_from(library, place)
        start = place + header_size
        if version != 1 or header_size != CONTAINER.size or start + size > len(library):
            place += 4
            continue
        zeroed += _empty_entries(library, start, start + size, architecture)
        place = start + size
    return zeroed


def _empty_entries(library: bytearray, place: int, end: int, architecture: int) -> int:
    zeroed = 0
    while place + SMALLEST_HEADER <= end:
        kind, _, header_size, size = ENTRY.unpack_from(library, place)
        content = place + header_size
        if kind not in KINDS or header_size < SMALLEST_HEADER or content + size > end:
            break
        (found,) = struct.unpack_from("<I", library, place + ARCHITECTURE_OFFSET)
        if kind != ELF or found != architecture:
            library[content : content + size] = bytes(size)
            zeroed += size
        place = content + size
    return zeroed


def main() -> None:
    path, architecture = Path(sys.argv[1]), int(sys.argv[2])
    library = bytearray(path.read_bytes())
    zeroed = keep_one_architecture(library, architecture)
    path.write_bytes(library)
    print(f"{path}: {zeroed:,} of {len(library):,} bytes emptied")


if __name__ == "__main__":
    main()
