"""`tuneyard data stats`: prints statistics of a chat file as a table or as JSON."""

from __future__ import annotations

import argparse
import json

from tuneyard.chats.row_reader import ChatRowReader
from tuneyard.cli.data.inputs import load_codec, print_format, read_examples, with_progress_bar
from tuneyard.cli.data.row_options import load_row_settings
from tuneyard.core.errors import DatasetError
from tuneyard.training_data.dataset_stats import DatasetStats, collect_stats

BAR_WIDTH = 40


def print_stats(arguments: argparse.Namespace) -> None:
    """The action."""
    for name in ("max_length", "batch_size"):
        if getattr(arguments, name) < 1:
            raise DatasetError(f"--{name.replace('_', '-')} must be at least 1, found {getattr(arguments, name)}.")
    reader = ChatRowReader(arguments.file, load_row_settings(arguments), accepts_pairs=True)
    examples = with_progress_bar(read_examples(reader), "rows")
    stats = collect_stats(examples, load_codec(arguments.model), arguments.max_length, arguments.batch_size)
    if arguments.json:
        print(json.dumps({"file": arguments.file, "format": reader.format, **stats.as_json()}, indent=2))
        return
    print_format(reader)
    print(_table(stats))


def _table(stats: DatasetStats) -> str:
    trained = f"{2 * stats.training_rows if stats.pairs else stats.training_rows:,}"
    rows = [
        ("rows", f"{stats.rows:,}" + (", preference pairs" if stats.pairs else "")),
        ("assistant turns", f"{stats.turns:,}, of which {trained} are trained on"),
        ("tokens", f"{stats.tokens:,}"),
        ("  with loss", f"{stats.trained_tokens:,} ({stats.assistant_share:.1%})"),
        ("  per answer" if stats.pairs else "  per row", f"median {stats.median:,}, longest {stats.longest:,}"),
        (f"over {stats.max_length:,} tokens", f"{stats.over_max_length:,}"),
        ("steps per epoch", f"{stats.steps_per_epoch:,} with {stats.batch_size} rows per step"),
    ]
    in_use = f"{stats.padding_efficiency:.1%} padded"
    if stats.packing_efficiency is not None:
        rows.append(("  packed", f"{stats.steps_per_epoch_packed:,} with {stats.batch_size} packs per step"))
        in_use += f", {stats.packing_efficiency:.1%} packed"
    rows.append(("positions in use", in_use))
    largest = max(stats.histogram.values(), default=1)
    bars = [
        f"  up to {tokens:>7,}  {count:>8,}  {'█' * max(1, round(BAR_WIDTH * count / largest))}"
        for tokens, count in stats.histogram.items()
    ]
    return "\n".join(
        [
            *(f"{name:<22}{value}" for name, value in rows),
            "answers by tokens" if stats.pairs else "rows by tokens",
            *bars,
        ]
    )
