"""One part of a token store: an Arrow file of training rows, with a summary in its schema's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneyard.chats.dataset import MAX_SHOWN_PROBLEMS
from tuneyard.core.atomic_files import write_atomically
from tuneyard.training_data.token_table import TokenTable

SUMMARY_KEY = b"tuneyard"


def part_path(folder: Path, number: int) -> Path:
    """The file of part `number`, from 0, of the store in `folder`."""
    return folder / f"part-{number:06d}.arrow"


def write_part(table: TokenTable, path: Path, chats_digest: str = "") -> dict[str, Any]:
    """Writes one part atomically and returns its summary.

    The summary holds `chats` (the digest of the part's chats), `rows`, `tokens`, `too_long` (the number of turns left
    out) and `too_long_named` (the first of them).
    """
    summary = {
        "chats": chats_digest,
        "rows": table.rows.num_rows,
        "tokens": table.num_tokens,
        "too_long": len(table.too_long),
        "too_long_named": table.too_long[:MAX_SHOWN_PROBLEMS],
    }
    rows = table.rows.replace_schema_metadata({SUMMARY_KEY: json.dumps(summary)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    write_atomically(path, sink.getvalue().to_pybytes())
    return summary


def read_part_summary(path: Path) -> dict[str, Any]:
    """The summary of a part, as write_part returned it."""
    with pa.memory_map(str(path)) as file:
        summary: dict[str, Any] = json.loads(pa.ipc.open_stream(file).schema.metadata[SUMMARY_KEY])
    return summary
