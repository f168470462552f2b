"""Checks a run's datasets, held-out rows leaked from the training data included, and renders their tokens."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tqdm import tqdm

from jobs.runs.prepared_run import CheckedDataset, PreparedData
from tuneyard.chats.dataset import MAX_SHOWN_PROBLEMS, DatasetScan
from tuneyard.chats.messages import ChatExample
from tuneyard.checkpoints.node_cache import cache_folder
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import DatasetError
from tuneyard.core.wording import count_of, listed
from tuneyard.harmony.parity_rows import ParitySample
from tuneyard.storage.location import is_uri
from tuneyard.training_data.dataset_review import DatasetReview
from tuneyard.training_data.part_rendering import ChatSource, TokenSettings, load_codec
from tuneyard.training_data.report.data_report import DataReport
from tuneyard.training_data.report.report_builder import RenderedForm, describe_rows, preview_samples
from tuneyard.training_data.row_checks import RowChecker
from tuneyard.training_data.token_store import TokenStore, build_token_store


def check_dataset(
    location: str, config: FinetuneConfig, checker: RowChecker, sample: ParitySample, *, is_heldout: bool
) -> CheckedDataset:
    """Reads the whole dataset, checks each row, and adds each row to `sample`.

    `checker` remembers the rows that it saw, so check the training data before the held-out data. Raises DatasetError
    for rows with errors: broken rows, and by default held-out rows that are also training rows.
    """
    review = DatasetReview(location, config.data, checker, is_heldout=is_heldout)
    errors: list[str] = []
    bar = tqdm(review, desc=f"checking {location}", unit=" chats", disable=not sys.stderr.isatty(), leave=False)
    for row in bar:
        if row.example is not None:
            sample.add(row.example)
        elif len(errors) < MAX_SHOWN_PROBLEMS:
            errors += [f"{problem} [{problem.kind}]" for problem, severity in row.problems if severity == "error"]
    if total := review.counts.total("error"):
        raise DatasetError(
            f"{location}: {count_of(total, 'error')} in the {'held-out' if is_heldout else 'training'} data:\n"
            f"{listed(errors[:MAX_SHOWN_PROBLEMS], total)}\n"
            "To see all problems: tuneyard data validate. data.problems decides by name what is an error."
        )
    return CheckedDataset(review.rows, review.fingerprint, review.counts, review.dropped, review.instructions.text)


def render_tokens(location: str, checked: CheckedDataset, config: FinetuneConfig, *, packed: bool) -> TokenStore:
    """Renders a checked dataset into `<storage>/tokens`, or returns the store that is already there.

    With `run.storage` on an object store, the tokens go into this node's cache. Raises DatasetError when the dataset
    changed since the check, and when rows are too long and `data.too_long` does not drop them or would drop all.
    """

    def read() -> Iterator[ChatExample]:
        scan = DatasetScan(location, config.data, checked.dropped)
        yield from scan
        if scan.fingerprint != checked.fingerprint:
            raise DatasetError(
                f"{location}: changed while it was read. Run the command again when nothing writes to the file."
            )

    data = config.data
    settings = _token_settings(config, packed=packed)
    source = ChatSource(read, checked.rows, checked.fingerprint, location)
    root = cache_folder() if is_uri(config.run.storage) else config.run.folder
    store = build_token_store(source, settings, root / "tokens")
    if store.too_long and (data.too_long == "error" or not store.rows):
        raise DatasetError(_too_long_message(store, data.max_length))
    return store


def build_report(prepared: PreparedData, config: FinetuneConfig) -> DataReport:
    """What the run is trained on and measured with. `model.base` must be a local folder. Reads all tokens once."""
    is_packed = config.data.batching == "packed"
    are_pairs = config.training.objective == "dpo"
    form = RenderedForm(config.data.max_length, is_packed, are_pairs)
    heldout = None
    if prepared.heldout is not None and prepared.heldout_tokens is not None:
        unpacked = RenderedForm(config.data.max_length, is_packed=False, are_pairs=are_pairs)
        heldout = describe_rows(prepared.heldout_tokens, prepared.heldout.rows, unpacked)
    codec = load_codec(_token_settings(config, packed=is_packed))
    return DataReport(
        train=describe_rows(prepared.train_tokens, prepared.train.rows, form),
        heldout=heldout,
        preview=preview_samples(prepared.train_tokens, codec, form),
    )


def _token_settings(config: FinetuneConfig, *, packed: bool) -> TokenSettings:
    data = config.data
    return TokenSettings(config.model.folder, config.codec, data.max_length, data.train_on_reasoning, packed)


def _too_long_message(store: TokenStore, max_length: int) -> str:
    subject = "1 row is" if store.too_long == 1 else f"{store.too_long:,} rows are"
    return (
        f"{subject} longer than data.max_length={max_length}:\n{listed(store.too_long_named, store.too_long)}\n"
        "Raise data.max_length, shorten the rows, or set data.too_long=drop to train without them."
    )
