"""Rows of Hugging Face datasets: saved to disk with `save_to_disk`, or read from the hub by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneyard.chats.readers.arrow_rows import BATCH_ROWS, read_batches
from tuneyard.chats.readers.raw_row import RawRow
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
    yield from _read_dataset(dataset, Path(location).name)


def read_hub_dataset(location: str) -> Iterator[RawRow]:
    """The rows of `hf:owner/name[#config][:split]`, streamed from the hub; the split is `train` by default.

    A folder that has the form of a dataset on the hub can stand for `owner/name`. Raises DatasetError if the hub does
    not have the dataset, the config or the split, or cannot be reached; and MissingDependencyError without the package
    `datasets`.
    """
    name, config, split = parse_hub_location(location)
    datasets = _import_datasets()
    errors = (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError)
    try:
        dataset = datasets.load_dataset(name, config, split=split, streaming=True)
    except errors as e:
        try:
            choice = _explain_choice(location, datasets)
        except errors:
            choice = None
        raise DatasetError(choice or f"{location}: cannot be loaded from the Hugging Face hub: {e}") from e
    try:
        yield from _read_dataset(dataset, name)
    except errors as e:
        raise DatasetError(f"{location}: cannot be loaded from the Hugging Face hub: {e}") from e


def _explain_choice(location: str, datasets: Any) -> str | None:
    """The configs or the splits of a dataset of which the location names none; None if it names both rightly."""
    name, config, split = parse_hub_location(location)
    configs = datasets.get_dataset_config_names(name)
    if config not in configs and (config or (len(configs) > 1 and "default" not in configs)):
        return (
            f"{location}: the dataset has the configs {', '.join(configs)}. Choose one: {HUB_PREFIX}{name}#{configs[0]}"
        )
    splits = datasets.get_dataset_split_names(name, config)
    if split not in splits:
        chosen = f"{HUB_PREFIX}{name}" + (f"#{config}" if config else "")
        return f"{location}: the dataset has the splits {', '.join(splits)}. Choose one: {chosen}:{splits[0]}"
    return None


def parse_hub_location(location: str) -> tuple[str, str | None, str]:
    """Name, config and split of `hf:owner/name[#config][:split]`; by default the config is None, the split `train`."""
    name, _, split = location.removeprefix(HUB_PREFIX).partition(":")
    name, _, config = name.partition("#")
    return name, config or None, split or "train"


def _read_dataset(dataset: Any, name: str) -> Iterator[RawRow]:
    tables = dataset.with_format("arrow").iter(batch_size=BATCH_ROWS)
    yield from read_batches((batch for table in tables for batch in table.to_batches()), name)


def _import_datasets() -> Any:
    try:
        import datasets
        import datasets.exceptions
    except ModuleNotFoundError as e:
        if e.name != "datasets":
            raise
        raise MissingDependencyError("Hugging Face datasets need the package `datasets`: pip install datasets") from e
    return datasets
