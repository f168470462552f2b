"""Parts of a token store: Arrow files of training rows, each with a summary in its schema's metadata.

A part is the rows of consecutive chats. It is one file, or several if its rows have more tokens than a file may hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tuneyard.chats.dataset import MAX_SHOWN_PROBLEMS
from tuneyard.core.atomic_files import write_atomically
from tuneyard.training_data.token_table import TokenTable

SUMMARY_KEY = b"tuneyard"


def part_path(folder: Path, number: int, continuation: int = 0) -> Path:
    """A file of part `number`, from 0, of the store in `folder`: its first, or the one that is its `continuation`th.

    In the order of their names, all files of a part stand together.
    """
    return folder / f"part-{number:06d}{f'_{continuation:06d}' if continuation else ''}.arrow"


def part_files(folder: Path) -> list[Path]:
    """The files of all parts in `folder`, in order."""
    return sorted(folder.glob("part-*.arrow"))


def write_part(tables: Iterable[TokenTable], folder: Path, number: int, chats_digest: str = "") -> dict[str, Any]:
    """Writes each table of a part as a file and returns the part's summary.

    The summary holds `files` (their names), `chats` (the digest of the part's chats), `rows`, `tokens`, `too_long` (the
    number of turns left out) and `too_long_named` (the first of them). The first file is written last: a part with it
    is complete. Holds two tables in memory.
    """
    remaining = iter(tables)
    first = next(remaining)
    others = [
        _write_file(table, part_path(folder, number, continuation), chats_digest, 0)
        for continuation, table in enumerate(remaining, start=1)
    ]
    return _sum([_write_file(first, part_path(folder, number), chats_digest, len(others)), *others])


def _write_file(table: TokenTable, path: Path, chats_digest: str, continuations: int) -> dict[str, Any]:
    summary = {
        "chats": chats_digest,
        "continuations": continuations,
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
    return {**summary, "files": [path.name]}


def _sum(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The summary of a part, from those of its files."""
    totals = {name: sum(summary[name] for summary in summaries) for name in ("rows", "tokens", "too_long")}
    lists = {name: [item for summary in summaries for item in summary[name]] for name in ("too_long_named", "files")}
    lists["too_long_named"] = lists["too_long_named"][:MAX_SHOWN_PROBLEMS]
    return {"chats": summaries[0]["chats"], **totals, **lists}


def read_part(folder: Path, number: int, chats_digest: str) -> dict[str, Any] | None:
    """The summary, as write_part returned it, of a part that is complete and of these chats; None if it is not."""
    first = read_file_summary(part_path(folder, number))
    if first is None or first["chats"] != chats_digest:
        return None
    paths = [part_path(folder, number, continuation) for continuation in range(1, first["continuations"] + 1)]
    others = [read_file_summary(path) for path in paths]
    if any(other is None or other["chats"] != chats_digest for other in others):
        return None
    return _sum([first, *(other for other in others if other is not None)])


def read_file_summary(path: Path) -> dict[str, Any] | None:
    """The summary of one file; None if the file is missing, damaged or cut.

    Maps the file and reads only the headers of its batches.
    """
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_stream(file)
            summary: dict[str, Any] = json.loads(reader.schema.metadata[SUMMARY_KEY])
            rows = sum(batch.num_rows for batch in reader)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return {"continuations": 0, **summary, "files": [path.name]} if rows == summary["rows"] else None
