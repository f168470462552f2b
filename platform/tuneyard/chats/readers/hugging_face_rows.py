"""Rows of Hugging Face datasets: saved to disk with `save_to_disk`, or streamed from the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneyard.chats.readers.raw_row import RawRow, drop_nulls
from tuneyard.core.errors import DatasetError, MissingDependencyError

HUB_PREFIX = "hf:"


def read_saved_dataset(location: str, *, has_splits: bool) -> Iterator[RawRow]:
    """The rows of a folder that `save_to_disk` wrote. `has_splits`: it holds a DatasetDict.

    Raises DatasetError if it has several splits, and MissingDependencyError without the package `datasets`.
    """
    dataset = _import_datasets().load_from_disk(location)
    if has_splits:
        if len(dataset) != 1:
            raise DatasetError(
                f"{location}: the dataset has the splits {', '.join(dataset)}. Choose one, for example {location}/train"
            )
        dataset = next(iter(dataset.values()))
    for number, row in enumerate(dataset, start=1):
        yield RawRow(f"{Path(location).name}:row {number}", drop_nulls(row))


def read_hub_dataset(location: str) -> Iterator[RawRow]:
    """The rows of `hf:owner/name[:split]`, streamed from the hub; the split is `train` by default.

    Raises DatasetError if the hub does not have the dataset or cannot be reached, and MissingDependencyError without
    the package `datasets`.
    """
    name, _, split = location.removeprefix(HUB_PREFIX).partition(":")
    try:
        dataset = _import_datasets().load_dataset(name, split=split or "train", streaming=True)
        for number, row in enumerate(dataset, start=1):
            yield RawRow(f"{name}:row {number}", drop_nulls(row))
    except (OSError, ValueError) as e:
        raise DatasetError(f"{location}: cannot be loaded from the Hugging Face hub: {e}") from e


def _import_datasets() -> Any:
    try:
        import datasets
    except ModuleNotFoundError as e:
        if e.name != "datasets":
            raise
        raise MissingDependencyError("Hugging Face datasets need the package `datasets`: pip install datasets") from e
    return datasets
