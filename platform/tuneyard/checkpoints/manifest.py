"""manifest.json: what a checkpoint is, where it came from, and the hashes of its files and tensors.

The manifest is written last, so its existence means that every other file is complete.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from tuneyard.checkpoints.layout.content_hashes import FileEntry, TensorEntry, table_digest
from tuneyard.checkpoints.layout.json_files import read_small_file, refuse_outside_names
from tuneyard.core.errors import CheckpointError
from tuneyard.core.strict_model import FrozenModel
from tuneyard.core.wording import printable, short_repr
from tuneyard.harmony.settings import CodecSettings

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1


class BaseReference(FrozenModel):
    """The checkpoint that training started from."""

    name: str
    digest: str
    """CheckpointManifest.digest of the base."""


class DatasetReference(FrozenModel):
    """The dataset that the model was trained on."""

    fingerprint: str
    rows: int
    """Chats in the training file; held-out chats are not counted."""
    files: tuple[str, ...] = ()
    dropped: dict[str, int] = Field(default_factory=dict)
    """Rows of the training file that were left out, by the name of the problem that dropped them."""
    problems: dict[str, int] = Field(default_factory=dict)
    """Warnings and notes about the training file, by name."""


class CodecReference(FrozenModel):
    """The settings that turned chats into tokens in training. Serving must use the same."""

    settings: dict[str, Any]
    fingerprint: str

    def codec_settings(self) -> CodecSettings:
        """The settings, checked. Raises CheckpointError if this Tuneyard does not know one of them."""
        try:
            return CodecSettings.model_validate(self.settings)
        except ValidationError as e:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors()[:5])
            raise CheckpointError(
                f"manifest.json: codec.settings is not valid: {problems}. Use the Tuneyard that wrote it, or export "
                "the checkpoint again."
            ) from e


class CheckpointManifest(FrozenModel):
    """The content of manifest.json."""

    format_version: Literal[1] = 1
    kind: Literal["base", "finetuned", "adapter"]
    name: str
    version: str
    created_at: str
    """ISO 8601, in UTC."""
    architecture: str
    files: dict[str, FileEntry]
    """Every file except the manifest, by its path inside the folder, separated by `/`. See checkpoint_files."""
    tensors: dict[str, TensorEntry]
    base: BaseReference | None = None
    dataset: DatasetReference | None = None
    codec: CodecReference | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    """The resolved config of the run that made the checkpoint."""
    parity: tuple[dict[str, Any], ...] = ()
    """Prompts with their token ids (harmony.parity.ParityRow), frozen in training. A deployment renders them again and
    compares the ids."""
    metrics: dict[str, float] = Field(default_factory=dict)
    proof: dict[str, float | str | int] = Field(default_factory=dict)
    """Measurements that show that the exported weights compute the same as the trained model."""
    software: dict[str, str] = Field(default_factory=dict)
    git_commit: str | None = None
    run_id: str | None = None

    @property
    def digest(self) -> str:
        """The identity of the weights; see table_digest."""
        return table_digest(self.tensors)


def read_manifest(folder: Path) -> CheckpointManifest:
    """Returns the folder's manifest. It does not check that the files match; see validate_hf_checkpoint.

    Raises CheckpointError if the folder or the manifest is missing, unreadable or of another format version.
    """
    path = Path(folder) / MANIFEST_NAME
    if not path.parent.is_dir():
        raise CheckpointError(f"{path.parent}: no such checkpoint folder. Check the path.")
    try:
        data = json.loads(read_small_file(path))
    except FileNotFoundError as e:
        raise CheckpointError(
            f"{path.parent} is not a finished checkpoint: it has no {MANIFEST_NAME}, which is written last. Either its "
            "run was interrupted (resume the run), or another tool made it (add a manifest to a downloaded base model "
            "with `tuneyard models adopt FOLDER`)."
        ) from e
    except (OSError, ValueError, RecursionError) as e:
        raise CheckpointError(
            f"{path} cannot be read as JSON: {e}. Restore the file, or export the checkpoint again."
        ) from e
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format_version is {version!r}, but this Tuneyard reads only {FORMAT_VERSION}. Use the Tuneyard "
            "that wrote it, or export the checkpoint again."
        )
    try:
        manifest = CheckpointManifest.model_validate_json(json.dumps(data))
    except ValidationError as e:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors()[:5])
        raise CheckpointError(
            f"{path} is not a valid manifest: {problems}. Restore the file, or export the checkpoint again."
        ) from e
    refuse_outside_names(manifest.files, path)
    if printable(identity := manifest.name + manifest.version) != identity:
        raise CheckpointError(
            f"{path}: the name {short_repr(manifest.name)} or the version {short_repr(manifest.version)} holds "
            "characters that control a terminal. Do not use this folder; copy the checkpoint again from its source."
        )
    return manifest
