"""OutputStore: the kept outputs of rows, in a file that the workers of a node share."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
import torch.distributed as dist

MAX_BYTES = 2**30
"""Largest file of kept outputs on a node."""

DISK_SHARE = 0.5
"""Share of the free disk that the file may take. Checkpoints are written to the same disk."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

WRITTEN = b"\1"


class OutputStore:
    """float32 outputs [tokens, width] by row number, in a file that several processes may read and write.

    Every process writes the same values for a row, so no lock is needed: a byte that says that a row is there is
    written after the row. Rows that do not fit `limit_bytes` are not kept, nor any more once the disk is full.
    """

    def __init__(self, path: Path, row_tokens: Sequence[int], width: int, limit_bytes: int) -> None:
        """Opens the file and creates it if it is not there. `row_tokens` are the tokens of each row."""
        self._shapes = [(tokens, width) for tokens in row_tokens]
        sizes = [tokens * width * torch.float32.itemsize for tokens in row_tokens]
        ends = list(accumulate(sizes, initial=len(sizes)))
        self._starts = ends[:-1]
        self._kept_rows = sum(end <= limit_bytes for end in ends[1:])
        self._is_full = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def kept_rows(self) -> int:
        """The number of rows, counted from the first, that fit."""
        return self._kept_rows

    def read(self, row: int) -> torch.Tensor | None:
        """The outputs of a row; None if no process has written them."""
        if row >= self._kept_rows or os.pread(self._file, 1, row) != WRITTEN:
            return None
        tokens, width = self._shapes[row]
        data = bytearray(os.pread(self._file, tokens * width * torch.float32.itemsize, self._starts[row]))
        return torch.frombuffer(data, dtype=torch.float32).reshape(tokens, width)

    def write(self, row: int, outputs: torch.Tensor) -> None:
        """Keeps the outputs of a row, if there is room."""
        if row >= self._kept_rows or self._is_full:
            return
        if tuple(outputs.shape) != self._shapes[row]:
            raise ValueError(f"row {row} has the shape {self._shapes[row]}, but its outputs {tuple(outputs.shape)}")
        data = outputs.contiguous().numpy().tobytes()
        try:
            self._is_full = os.pwrite(self._file, data, self._starts[row]) < len(data)
        except OSError as e:
            if e.errno not in DISK_FULL:
                raise
            self._is_full = True
        if not self._is_full:
            os.pwrite(self._file, WRITTEN, row)

    def close(self) -> None:
        """Closes the file, which its folder's owner deletes."""
        os.close(self._file)


def open_shared_store(folder: Path, row_tokens: Sequence[int], width: int) -> OutputStore:
    """A store for this worker and all others of its process group that see the same file.

    Every worker must call it, each with a `folder` of its own that exists while the group runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / f"frozen-outputs-{secrets.token_hex(8)}"
    own.touch(0o600)
    path = own
    if dist.is_initialized() and dist.get_world_size() > 1:
        offers: list[tuple[str, str]] = [("", "")] * dist.get_world_size()
        dist.all_gather_object(offers, (socket.gethostname(), str(own)))
        # Workers of one host in containers of their own do not see the first one's file.
        seen = [Path(offer) for host, offer in offers if host == socket.gethostname() and Path(offer).exists()]
        path = seen[0]
    limit_bytes = min(MAX_BYTES, int(shutil.disk_usage(folder).free * DISK_SHARE))
    return OutputStore(path, row_tokens, width, limit_bytes)
