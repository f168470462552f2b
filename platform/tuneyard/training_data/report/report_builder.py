"""Builds a DataReport from token stores. Reads each store once, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.training_data.dataset_stats import length_histogram
from tuneyard.training_data.report.data_report import RenderedData, SamplePreview, TokenPiece
from tuneyard.training_data.row_samples import PAIR_NAMES
from tuneyard.training_data.token_store import TokenStore, open_token_rows
from tuneyard.training_data.token_table import IGNORED_LABEL, TOKEN_COLUMNS, split_pairs

PREVIEW_SAMPLES = 3
PREVIEW_TOKENS = 400
"""Tokens of a sample that the preview shows, at most."""

MAX_PIECE_TOKENS = 8
"""Tokens that may share one character; broken text in the data stays broken."""


@dataclass(frozen=True, slots=True)
class RenderedForm:
    """How the rows of a store were made."""

    max_length: int
    is_packed: bool
    are_pairs: bool


def describe_rows(store: TokenStore, chats: int, form: RenderedForm) -> RenderedData:
    """The statistics of a store that `chats` chats or pairs were rendered into. Takes 4 bytes per sample."""
    trained = 0
    parts: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    for batch in _batches(store):
        trained += int(np.count_nonzero(batch["labels"].flatten().to_numpy() != IGNORED_LABEL))
        for samples in split_pairs(pa.Table.from_batches([batch])).to_batches():
            parts.append(np.diff(samples["input_ids"].offsets.to_numpy()))
    lengths = np.concatenate(parts)
    return RenderedData(
        chats=chats,
        pairs=form.are_pairs,
        samples=len(lengths),
        tokens=int(lengths.sum(dtype=np.int64)),
        trained_tokens=trained,
        longest=int(lengths.max(initial=0)),
        median=int(np.sort(lengths)[len(lengths) // 2]) if len(lengths) else 0,
        too_long=store.too_long,
        max_length=form.max_length,
        histogram=length_histogram(lengths.tolist()),
        packs=store.rows if form.is_packed else None,
    )


def preview_samples(store: TokenStore, codec: HarmonyCodec, form: RenderedForm) -> tuple[SamplePreview, ...]:
    """The first PREVIEW_SAMPLES samples of the store, token by token."""
    return tuple(islice(_previews(store, codec, form), PREVIEW_SAMPLES))


def _previews(store: TokenStore, codec: HarmonyCodec, form: RenderedForm) -> Iterator[SamplePreview]:
    for batch in _batches(store):
        for row in range(batch.num_rows):
            source = str(batch["source"][row])
            samples = split_pairs(pa.Table.from_batches([batch.slice(row, 1)]))
            for number, sample in enumerate(samples.to_pylist()):
                pair_name = f" {PAIR_NAMES[number]}" if form.are_pairs else ""
                yield SamplePreview(
                    name=f"{source}{pair_name}" if not form.is_packed else f"{source} · sample {number + 1}",
                    tokens=len(sample["input_ids"]),
                    pieces=tuple(cut_into_pieces(sample["input_ids"], sample["labels"], codec)),
                )


def cut_into_pieces(token_ids: Sequence[int], labels: Sequence[int], codec: HarmonyCodec) -> Iterator[TokenPiece]:
    """The first PREVIEW_TOKENS tokens as pieces of whole characters. A piece is trained as a whole, or not at all."""
    position, end = 0, min(len(token_ids), PREVIEW_TOKENS)
    while position < end:
        is_trained = labels[position] != IGNORED_LABEL
        size = 1
        while (
            not _is_whole(codec, token_ids[position : position + size])
            and size < MAX_PIECE_TOKENS
            and position + size < end
            and (labels[position + size] != IGNORED_LABEL) == is_trained
        ):
            size += 1
        if not _is_whole(codec, token_ids[position : position + size]):
            size = 1  # bytes of no character
        ids = tuple(token_ids[position : position + size])
        yield TokenPiece(text=codec.render_text(ids), ids=ids, trained=is_trained)
        position += size


def _is_whole(codec: HarmonyCodec, token_ids: Sequence[int]) -> bool:
    return "\N{REPLACEMENT CHARACTER}" not in codec.render_text(token_ids)


def _batches(store: TokenStore) -> Iterator[pa.RecordBatch]:
    columns = [*TOKEN_COLUMNS, "source"]
    yield from open_token_rows(store.path).data.table.select(columns).to_batches()
