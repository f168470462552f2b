"""What the subcommands of `tuneyard data` read: examples of a chat file, and the codec of a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_reader import ChatRowReader
from tuneyard.checkpoints.manifest import MANIFEST_NAME, read_manifest
from tuneyard.checkpoints.safety.checkpoint_safety import refuse_adapter
from tuneyard.core.errors import CheckpointError, DatasetError
from tuneyard.core.home import expand_path
from tuneyard.core.room_commands import BUILD_BASE_MODEL
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

Item = TypeVar("Item")


def load_codec(model: str) -> HarmonyCodec:
    """Returns the codec of a checkpoint folder, with the manifest's settings; a base has the default settings.

    Raises CheckpointError when the folder holds no tokenizer, or an adapter.
    """
    folder = Path(expand_path(model))
    refuse_adapter(folder)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"--model {folder}: no checkpoint there; its tokenizer is needed to count tokens. "
            f"To build the demo's base model: python -m {BUILD_BASE_MODEL} smol-oss-135m"
        )
    settings = CodecSettings()
    if (folder / MANIFEST_NAME).is_file():
        manifest = read_manifest(folder)
        if manifest.codec is not None:
            settings = manifest.codec.codec_settings()
    return HarmonyCodec.from_checkpoint(folder, settings)


def read_examples(reader: ChatRowReader) -> Iterator[ChatExample]:
    """Yields the file's examples without dropped rows. Raises DatasetError at the first row with an error."""
    for row in reader:
        severities = [reader.settings.severity_of(problem.kind) for problem in row.problems]
        if "drop" in severities:
            continue
        if "error" in severities:
            problem = row.problems[severities.index("error")]
            raise DatasetError(
                f"{problem} [{problem.kind}]\nTo see all problems: tuneyard data validate {reader.location}"
            )
        if row.example is not None:
            yield row.example


def print_format(reader: ChatRowReader) -> None:
    """Prints the format of the rows, if one was given or detected, and the mapped columns."""
    if reader.format is not None:
        print(f"{reader.location}: {reader.title} ({reader.format})")
    for target, source in reader.settings.columns.items():
        print(f"  {target} = {source!r}" if "{" in source else f"  {target} = column `{source}`")


def with_progress_bar(items: Iterable[Item], unit: str) -> Iterable[Item]:
    """Iterates with a progress bar on a terminal's standard error."""
    bar: Iterable[Item] = tqdm(items, unit=f" {unit}", disable=not sys.stderr.isatty(), leave=False)
    return bar
