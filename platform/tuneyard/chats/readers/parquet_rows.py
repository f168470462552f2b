"""Rows of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from tuneyard.chats.readers.arrow_rows import BATCH_ROWS, read_batches
from tuneyard.chats.readers.raw_row import RawRow


def read_parquet(filesystem: pafs.FileSystem, path: str, name: str) -> Iterator[RawRow]:
    """The rows of the Parquet file at `path`, which `name` names in messages. Null members are left out."""
    with filesystem.open_input_file(path) as file:
        yield from read_batches(pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS), name)
