"""Builds what the rehearsed run needs: the small model, a few chats, and its config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.rehearsal.layout import RehearsedLayout
from jobs.rehearsal.run_checks import RunBase
from jobs.rehearsal.small_data import copy_short_chats
from jobs.rehearsal.small_model import build_small_base
from jobs.rehearsal.small_run import HELDOUT_ROWS, SmallFiles, rows_needed, small_run
from jobs.runs.prepared_run import PreparedData
from tuneyard.chats.dataset import DatasetScan
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.wording import count_of
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.training_data.row_samples import render_rows

LENGTH_STEP = 16
"""Maximum lengths are multiples of it, as parallel layouts need."""


@dataclass(frozen=True, slots=True)
class SmallInputs:
    """The config of the rehearsed run, whose files exist, and its model and rows in words."""

    config: FinetuneConfig
    description: str


def build_small_inputs(base: RunBase, data: PreparedData, layout: RehearsedLayout, scratch: Path) -> SmallInputs:
    """Builds the inputs in `scratch`, from the run's checked data and the form of its base."""
    run = base.run
    model = scratch / "base"
    is_published = (base.config.get("quantization_config") or {}).get("quant_method") == "mxfp4"
    config = build_small_base(base.config, layout.parallelism, model, published=is_published, adopted=base.is_adopted)
    train, heldout = scratch / "train.jsonl", scratch / "heldout.jsonl"
    rows = copy_short_chats(run.data.train, run.data, data.train.dropped, rows_needed(run, layout), train)
    has_heldout = run.data.heldout is not None and data.heldout is not None
    if run.data.heldout is not None and data.heldout is not None:
        copy_short_chats(run.data.heldout, run.data, data.heldout.dropped, HELDOUT_ROWS, heldout)
    files = SmallFiles(model, train, heldout if has_heldout else None, scratch / "storage")
    length = _longest_row(small_run(run, layout, files, max_length=int(base.config["max_position_embeddings"])))
    if run.data.batching == "packed":
        length *= 2  # so that a pack holds several rows
    form = "experts in MXFP4" if is_published else "BF16"
    description = (
        f"{config['num_hidden_layers']} layers, {config['num_local_experts']} experts, {form}; "
        f"{count_of(rows, 'row')} of the data"
    )
    return SmallInputs(small_run(run, layout, files, length), description)


def _longest_row(config: FinetuneConfig) -> int:
    """Tokens of the longest row of the small run, with its own vocabulary, rounded up to LENGTH_STEP."""
    codec = HarmonyCodec.from_checkpoint(config.model.folder, config.codec)
    files = [location for location in (config.data.train, config.data.heldout) if location is not None]
    lengths = [
        len(sample.token_ids)
        for location in files
        for chat in DatasetScan(location, config.data)
        for samples in render_rows(codec, chat)
        for sample in samples
    ]
    return -(-max(lengths) // LENGTH_STEP) * LENGTH_STEP
