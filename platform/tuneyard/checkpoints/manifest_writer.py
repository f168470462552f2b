"""Writing manifest.json: hashes of every file and tensor, and the versions of the software that made them."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from tuneyard.checkpoints.layout.content_hashes import FileEntry, TensorEntry, hash_file, hash_safetensors
from tuneyard.checkpoints.layout.folder_files import checkpoint_files
from tuneyard.checkpoints.layout.gpt_oss import ARCHITECTURE
from tuneyard.checkpoints.manifest import (
    MANIFEST_NAME,
    BaseReference,
    CheckpointManifest,
    CodecReference,
    DatasetReference,
)
from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import first_of


def write_manifest(
    folder: Path,
    *,
    kind: Literal["base", "finetuned", "adapter"],
    name: str,
    version: str,
    base: BaseReference | None = None,
    dataset: DatasetReference | None = None,
    codec: CodecReference | None = None,
    config: Mapping[str, Any] | None = None,
    parity: Sequence[Mapping[str, Any]] = (),
    metrics: Mapping[str, float] | None = None,
    proof: Mapping[str, float | str | int] | None = None,
    software: Mapping[str, str] | None = None,
    git_commit: str | None = None,
    run_id: str | None = None,
) -> CheckpointManifest:
    """Hashes every file in the folder and writes the manifest atomically. Call it last. Returns the manifest.

    An adapter has the architecture of its base. Raises CheckpointError if config.json names no architecture, a weights
    file is broken, or a tensor is in two files.
    """
    folder = Path(folder)
    files, tensors = _hash_folder(folder)
    manifest = CheckpointManifest(
        kind=kind,
        name=name,
        version=version,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        architecture=ARCHITECTURE if kind == "adapter" else _read_architecture(folder),
        files=files,
        tensors=tensors,
        parity=tuple(dict(row) for row in parity),
        base=base,
        dataset=dataset,
        codec=codec,
        config=dict(config or {}),
        metrics=dict(metrics or {}),
        proof=dict(proof or {}),
        software=dict(software or {}),
        git_commit=git_commit,
        run_id=run_id,
    )
    write_atomically(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")
    return manifest


def software_versions(*packages: str) -> dict[str, str]:
    """Returns the version of Python and of each named package that is installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _hash_folder(folder: Path) -> tuple[dict[str, FileEntry], dict[str, TensorEntry]]:
    """Returns the entries of checkpoint_files except the manifest, and of all tensors.

    A weights file in a subfolder, such as OpenAI's `original/`, counts as a plain file: no loader reads it as the
    model's weights. Raises CheckpointError if a tensor is in two files.
    """
    files: dict[str, FileEntry] = {}
    tensors: dict[str, TensorEntry] = {}
    for name, path in checkpoint_files(folder):
        if name == MANIFEST_NAME:
            continue
        if path.suffix != ".safetensors" or path.parent != folder:
            files[name] = hash_file(path)
            continue
        files[name], in_file = hash_safetensors(path)
        if repeated := sorted(tensors.keys() & in_file):
            raise CheckpointError(
                f"{path}: another file also holds the tensors {first_of(repeated)}. Export the weights again."
            )
        tensors |= in_file
    return files, tensors


def _read_architecture(folder: Path) -> str:
    path = folder / "config.json"
    try:
        return str(json.loads(path.read_bytes())["architectures"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as e:
        raise CheckpointError(
            f"{path} is missing or has no `architectures`, which a manifest needs ({e!r}). Copy config.json from the "
            "model's source."
        ) from e
