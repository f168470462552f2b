"""GgufManifest: the file beside a GGUF file that says what it was made from, and how it was proved."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.layout.content_hashes import FileEntry, hash_file
from tuneyard.checkpoints.manifest import BaseReference, CheckpointManifest, CodecReference, DatasetReference
from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.strict_model import FrozenModel


class GgufManifest(FrozenModel):
    """The content of `<file>.manifest.json`."""

    format_version: Literal[1] = 1
    name: str
    version: str
    """Those of the checkpoint."""

    created_at: str
    """ISO 8601, in UTC."""

    type: GgufType
    file: FileEntry
    """sha256 and size of the GGUF file."""

    dtypes: dict[str, int]
    """The number of tensors of each GGUF dtype."""

    checkpoint_digest: str
    """CheckpointManifest.digest of the checkpoint that the file was made from."""

    base: BaseReference | None = None
    dataset: DatasetReference | None = None
    codec: CodecReference | None = None
    proof: dict[str, float | str | int]
    """What llama.cpp computes from the file, compared with the checkpoint: see jobs.checkpoints.gguf."""

    software: dict[str, str]
    git_commit: str | None = None
    run_id: str | None = None


def manifest_path(gguf: Path) -> Path:
    """Where the manifest of a GGUF file is."""
    return gguf.with_name(f"{gguf.name}.manifest.json")


def write_gguf_manifest(
    gguf: Path,
    source: CheckpointManifest,
    kind: GgufType,
    dtypes: Mapping[str, int],
    proof: Mapping[str, float | str | int],
    software: Mapping[str, str],
) -> GgufManifest:
    """Hashes a GGUF file, and writes its manifest beside it. `source` is the manifest of its checkpoint."""
    manifest = GgufManifest(
        name=source.name,
        version=source.version,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        type=kind,
        file=hash_file(gguf),
        dtypes=dict(dtypes),
        checkpoint_digest=source.digest,
        base=source.base,
        dataset=source.dataset,
        codec=source.codec,
        proof=dict(proof),
        software=dict(software),
        git_commit=source.git_commit,
        run_id=source.run_id,
    )
    write_atomically(manifest_path(gguf), manifest.model_dump_json(indent=1) + "\n")
    return manifest
