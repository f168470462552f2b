"""manifest.json: what makes a folder of weights a checkpoint.

It is written last, so its existence means that everything else was written; its hashes say what that was.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from tuneyard.checkpoints.layout.safetensors_header import FileEntry, TensorEntry, hash_file, hash_safetensors
from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.errors import CheckpointError
from tuneyard.core.strict_model import FrozenModel

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1


class BaseReference(FrozenModel):
    """The checkpoint that training started from."""

    name: str
    digest: str


class DatasetReference(FrozenModel):
    """The dataset that training saw."""

    fingerprint: str
    rows: int
    files: tuple[str, ...] = ()


class CodecReference(FrozenModel):
    """How chats became tokens in training; serving must do the same."""

    settings: dict[str, Any]
    fingerprint: str


class CheckpointManifest(FrozenModel):
    """What a checkpoint is and where it came from."""

    format_version: Literal[1] = 1
    kind: Literal["base", "finetuned"]
    name: str
    version: str
    created_at: str
    """ISO 8601, UTC."""
    architecture: str
    files: dict[str, FileEntry]
    """Every file but the manifest itself, by its path inside the folder (with `/`)."""
    tensors: dict[str, TensorEntry]
    base: BaseReference | None = None
    dataset: DatasetReference | None = None
    codec: CodecReference | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    """The resolved config of the run that made it."""
    parity: tuple[dict[str, Any], ...] = ()
    """Prompts and their token ids, frozen in training (harmony.parity.ParityRow); the deployment renders them again."""
    metrics: dict[str, float] = Field(default_factory=dict)
    proof: dict[str, float | str | int] = Field(default_factory=dict)
    """What was measured to show that the checkpoint is right."""
    software: dict[str, str] = Field(default_factory=dict)
    git_commit: str | None = None
    run_id: str | None = None

    @property
    def digest(self) -> str:
        """The identity of the weights: see table_digest."""
        return table_digest(self.tensors)


def write_manifest(
    folder: Path,
    *,
    kind: Literal["base", "finetuned"],
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
    """Hashes every file in the folder and writes its manifest, atomically; call it last.

    Raises CheckpointError if there is no config.json with an architecture, or a weights file is broken.
    """
    folder = Path(folder)
    files, tensors = _hash_folder(folder)
    manifest = CheckpointManifest(
        kind=kind,
        name=name,
        version=version,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        architecture=_architecture(folder),
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


def read_manifest(folder: Path) -> CheckpointManifest:
    """The folder's manifest; it says nothing yet about whether the files match it.

    Raises CheckpointError if the folder or the manifest is missing, unreadable or of another format version.
    """
    path = Path(folder) / MANIFEST_NAME
    if not path.parent.is_dir():
        raise CheckpointError(f"{path.parent}: no such checkpoint folder.")
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise CheckpointError(
            f"{path.parent} is not a finished checkpoint: it has no {MANIFEST_NAME}, which is written last. "
            "Its run was cut off, or it was not made by Tuneyard: tuneyard models adopt FOLDER takes a download in."
        ) from e
    except (OSError, ValueError) as e:
        raise CheckpointError(
            f"{path}: cannot be read as JSON ({e}). Restore it, or export the checkpoint again."
        ) from e
    found = data.get("format_version") if isinstance(data, dict) else None
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version {found!r}, this Tuneyard reads {FORMAT_VERSION}. "
            "Use the Tuneyard that wrote it, or export the checkpoint again."
        )
    try:
        return CheckpointManifest.model_validate_json(json.dumps(data))
    except ValidationError as e:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors()[:5])
        raise CheckpointError(f"{path}: not a manifest: {problems}.") from e


def table_digest(tensors: Mapping[str, TensorEntry]) -> str:
    """The identity of weights: sha256 over the sorted table of name, dtype, shape and sha256 of the bytes.

    Equal weights have equal digests, however they are cut into files.
    """
    table = [[name, tensor.dtype, list(tensor.shape), tensor.sha256] for name, tensor in sorted(tensors.items())]
    return hashlib.sha256(json.dumps(table, separators=(",", ":")).encode()).hexdigest()


def read_tensor_table(folder: Path) -> dict[str, TensorEntry]:
    """The tensors of any checkpoint folder: its manifest's, or else (a download) hashed now.

    Raises CheckpointError if there is neither a manifest nor a readable weights file.
    """
    folder = Path(folder)
    if not folder.is_dir() or (folder / MANIFEST_NAME).exists():
        return read_manifest(folder).tensors
    tensors: dict[str, TensorEntry] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= hash_safetensors(path)[1]
    if not tensors:
        raise CheckpointError(f"{folder}: no manifest and no .safetensors file, so no checkpoint.")
    return tensors


def weights_digest(folder: Path) -> str:
    """table_digest of any checkpoint folder; a base needs no manifest. Raises CheckpointError if it has no weights."""
    return table_digest(read_tensor_table(folder))


def software_versions(*packages: str) -> dict[str, str]:
    """Versions of python and of those packages that are installed, for the manifest."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _hash_folder(folder: Path) -> tuple[dict[str, FileEntry], dict[str, TensorEntry]]:
    """Entries of all files but the manifest, and of all tensors; raises CheckpointError on a name used twice.

    Weights in folders below are files like others: no loader takes them for the model's (OpenAI's `original/`).
    """
    files: dict[str, FileEntry] = {}
    tensors: dict[str, TensorEntry] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST_NAME:
            continue
        if path.suffix != ".safetensors" or path.parent != folder:
            files[name] = hash_file(path)
            continue
        files[name], found = hash_safetensors(path)
        if twice := sorted(tensors.keys() & found):
            raise CheckpointError(
                f"{path}: {', '.join(twice[:3])} also lies in another file. Export the weights again."
            )
        tensors |= found
    return files, tensors


def _architecture(folder: Path) -> str:
    path = folder / "config.json"
    try:
        return str(json.loads(path.read_bytes())["architectures"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as e:
        raise CheckpointError(f"{path}: missing, or without `architectures`; a manifest needs it ({e!r}).") from e
