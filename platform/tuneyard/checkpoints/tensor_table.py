"""The tensors of any checkpoint folder, with or without a manifest, and the digest that identifies them."""

from __future__ import annotations

from pathlib import Path

from tuneyard.checkpoints.layout.content_hashes import TensorEntry, hash_safetensors, table_digest
from tuneyard.checkpoints.manifest import MANIFEST_NAME, read_manifest
from tuneyard.checkpoints.safety.tensor_values import TensorValues
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import count_of, listed


def read_tensor_table(folder: Path) -> dict[str, TensorEntry]:
    """Returns the tensors of a checkpoint by name: from its manifest, or else by hashing its weights now.

    A base model that was just downloaded has no manifest. Raises CheckpointError if the folder has neither a manifest
    nor a readable weights file, and if tensors that it hashes are damaged.
    """
    folder = Path(folder)
    if not folder.is_dir() or (folder / MANIFEST_NAME).exists():
        return read_manifest(folder).tensors
    tensors: dict[str, TensorEntry] = {}
    values = TensorValues()
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= hash_safetensors(path, values.add)[1]
    if problems := list(values.problems()):
        raise CheckpointError(f"{folder} has {count_of(len(problems), 'damaged tensor')}:\n{listed(problems)}")
    if not tensors:
        raise CheckpointError(
            f"{folder} has no manifest and no .safetensors file, so it is not a checkpoint. Check the path."
        )
    return tensors


def weights_digest(folder: Path) -> str:
    """Returns table_digest of a checkpoint's tensors. Raises CheckpointError if the folder has no weights."""
    return table_digest(read_tensor_table(folder))
