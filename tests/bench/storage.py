"""Speed of uploads and downloads with hashing to an object store on this machine, against pyarrow.fs.copy_files."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.fs as pafs

from tests.object_store import ObjectStore
from tuneyard.checkpoints.folder_index import FolderIndex
from tuneyard.checkpoints.transfer import download, upload
from tuneyard.storage.folder import StorageFolder

FILES, FILE_MIB, ROUNDS = 4, 64, 3


def run() -> dict[str, Any]:
    """Median MiB/s of each kind of transfer over ROUNDS rounds, and ratios.

    The time to hash the source files is not included, because a manifest already holds their hashes.
    """
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        source = folder / "source"
        source.mkdir()
        for number in range(FILES):
            (source / f"model-{number}.safetensors").write_bytes(os.urandom(FILE_MIB * 2**20))
        index = FolderIndex.of_files(source)
        with ObjectStore(folder / "store") as store, mock.patch.dict(os.environ, store.environment):
            rates: dict[str, list[float]] = {"upload": [], "copy_up": [], "download": [], "copy_down": []}
            for number in range(ROUNDS):
                ours = StorageFolder.open(f"s3://bucket/ours-{number}")
                theirs = StorageFolder.open(f"s3://bucket/theirs-{number}")
                back, copied = folder / f"back-{number}", folder / f"copied-{number}"
                back.mkdir()
                copied.mkdir()
                rates["copy_up"].append(
                    _rate(lambda to=theirs: pafs.copy_files(str(source), to.path, destination_filesystem=to.filesystem))
                )
                rates["upload"].append(_rate(lambda to=ours: upload(source, to, index)))
                rates["copy_down"].append(
                    _rate(
                        lambda to=theirs, at=copied: pafs.copy_files(to.path, str(at), source_filesystem=to.filesystem)
                    )
                )
                rates["download"].append(_rate(lambda to=ours, at=back: download(to, index, at)))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "mib_per_s": medians,
        "ratio_upload": medians["upload"] / medians["copy_up"],
        "ratio_download": medians["download"] / medians["copy_down"],
    }


def _rate(action: Callable[[], object]) -> float:
    started = time.monotonic()
    action()
    return FILES * FILE_MIB / (time.monotonic() - started)
