"""Validates a checkpoint: every byte, tensor and config field is what its manifest and config.json say.

Imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tuneyard.checkpoints.layout.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_tensor_problems, is_adapter
from tuneyard.checkpoints.layout.config_checks import config_problems, tokenizer_problems
from tuneyard.checkpoints.layout.content_hashes import (
    FileEntry,
    TensorEntry,
    hash_file,
    hash_safetensors,
    table_digest,
)
from tuneyard.checkpoints.layout.folder_files import checkpoint_files
from tuneyard.checkpoints.layout.gpt_oss import has_mxfp4_tensors
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.layout.tensor_checks import tensor_problems
from tuneyard.checkpoints.manifest import MANIFEST_NAME, CheckpointManifest, read_manifest
from tuneyard.checkpoints.safety.checkpoint_safety import check_adapter_safety, check_safety
from tuneyard.checkpoints.safety.tensor_values import TensorValues
from tuneyard.checkpoints.tensor_table import read_tensor_table
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import count_of, first_of, listed

INDEX_NAME = "model.safetensors.index.json"
"""Names the file of each tensor where the weights are split over several files."""

LOADED_SUFFIXES = (".safetensors", ".json", ".jinja", ".model")
"""Suffixes of files that a loader reads. A file with one of them that the manifest does not list is a problem."""


def validate_hf_checkpoint(folder: Path, base: Path | None = None) -> CheckpointManifest:
    """Returns the manifest of a checkpoint that is exactly what its manifest and config.json say. Reads every byte.

    It must also be safe to load (check_safety comes first), and no tensor may hold NaN, infinite or only zero values.

    `base` is the folder of the checkpoint that it was finetuned from. With it, names, shapes and dtypes must be those
    of the base, and at least one tensor must differ; experts are not compared if only one of the two is MXFP4. Raises
    one CheckpointError that lists every problem.
    """
    folder = Path(folder)
    check_safety(folder)
    problems: list[str] = []
    manifest = None
    try:
        manifest = read_manifest(folder)
    except CheckpointError as e:
        if not folder.is_dir():
            raise
        problems.append(str(e))
    weights = _Weights(folder)
    problems += [*weights.problems, *weights.value_problems, *_layout_problems(folder, weights)]
    if manifest is not None:
        problems += _file_problems(folder, manifest, weights)
        problems += _codec_problems(manifest)
        problems += _base_problems(manifest, base) if base is not None else []
    if problems or manifest is None:
        raise CheckpointError(
            f"{folder} is not a valid checkpoint: {count_of(len(problems), 'problem')}\n{listed(problems)}"
        )
    return manifest


def validate_adapter(folder: Path, base: Path | None = None) -> CheckpointManifest:
    """Returns the manifest of an adapter that is exactly what its manifest and adapter_config.json say.

    `base` is the folder of the checkpoint that it changes. With it, the base must be the one that was trained from, and
    the adapter must fit its weights. Raises one CheckpointError that lists every problem.
    """
    folder = Path(folder)
    check_adapter_safety(folder)
    manifest = read_manifest(folder)
    weights = _Weights(folder)
    problems = [*weights.problems, *weights.value_problems, *_file_problems(folder, manifest, weights)]
    if manifest.kind != "adapter":
        problems.append(f"the manifest says that it is a {manifest.kind} model. Export the adapter again.")
    if unread := sorted(weights.files.keys() - {ADAPTER_WEIGHTS}):
        problems.append(f"{', '.join(unread)}: no loader of adapters reads this file. Export the adapter again.")
    tensors = None
    if base is not None:
        tensors = read_tensor_table(base)
        problems += _digest_problems(manifest, base, table_digest(tensors))
    problems += adapter_tensor_problems(read_json(folder / ADAPTER_CONFIG), weights.tensors, tensors)
    # lora_B is zero before the first step, and lora_A is not.
    if weights.tensors and not any(name.endswith(".lora_B.weight") for name in weights.nonzero):
        problems.append("every lora_B holds only zeros: the training was a silent no-op.")
    if problems:
        raise CheckpointError(
            f"{folder} is not a valid adapter: {count_of(len(problems), 'problem')}\n{listed(problems)}"
        )
    return manifest


def validate_checkpoint(folder: Path) -> CheckpointManifest:
    """Returns the manifest of a valid model or a valid adapter. See validate_hf_checkpoint and validate_adapter."""
    return validate_adapter(folder) if is_adapter(folder) else validate_hf_checkpoint(folder)


class _Weights:
    """The safetensors files in a folder, whatever the manifest says about them."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, FileEntry] = {}
        self.tensors: dict[str, TensorEntry] = {}
        self.file_of: dict[str, str] = {}
        """Tensor name -> file name."""
        self.problems: list[str] = []
        values = TensorValues()
        for path in sorted(folder.glob("*.safetensors")):
            try:
                self.files[path.name], tensors = hash_safetensors(path, values.add)
            except CheckpointError as e:
                self.problems.append(str(e))
                continue
            self.problems += [
                f"{path.name}: {name} is also in {self.file_of[name]}. Export the weights again."
                for name in tensors
                if name in self.file_of
            ]
            self.tensors |= tensors
            self.file_of |= dict.fromkeys(tensors, path.name)
        self.value_problems = list(values.problems())
        self.nonzero = values.nonzero()
        """Names of the tensors that hold a value other than zero."""


def _layout_problems(folder: Path, weights: _Weights) -> Iterator[str]:
    """Problems of the files among themselves, without the manifest."""
    try:
        config = read_json(folder / "config.json")
    except CheckpointError as e:
        yield str(e)
        return
    yield from config_problems(config)
    yield from tokenizer_problems(folder, config)
    # If a file cannot be read, its tensors would all be reported as missing and hide the real problem.
    if not weights.problems:
        yield from tensor_problems(config, weights.tensors)
        yield from _index_problems(folder, weights)


def _index_problems(folder: Path, weights: _Weights) -> Iterator[str]:
    """Reasons why a loader would not find a tensor in the file where it looks for it."""
    if not (folder / INDEX_NAME).exists():
        if unread := sorted(weights.files.keys() - {"model.safetensors"}):
            yield (
                f"{', '.join(unread)}: no loader reads this file, because there is no {INDEX_NAME}. Export the weights "
                "again."
            )
        return
    try:
        weight_map = read_json(folder / INDEX_NAME).get("weight_map")
    except CheckpointError as e:
        yield str(e)
        return
    if weight_map != weights.file_of:
        yield f"{INDEX_NAME} does not name the right file for every tensor. Export the weights again."


def _file_problems(folder: Path, manifest: CheckpointManifest, weights: _Weights) -> Iterator[str]:
    """Differences between the files and the manifest."""
    for name, entry in sorted(manifest.files.items()):
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing, but the manifest lists it. Copy the checkpoint again."
        elif path.stat().st_size != entry.size_bytes:
            yield f"{name}: {path.stat().st_size} bytes where the manifest says {entry.size_bytes}. Copy it again."
        elif (actual := weights.files.get(name) or hash_file(path)).sha256 != entry.sha256:
            yield (
                f"{name}: sha256 is {actual.sha256[:12]}… where the manifest says {entry.sha256[:12]}…. The file was "
                f"changed or damaged after it was written (tensors: {_changed_tensors(manifest, weights, name)}). Copy "
                "it again, or write a new checkpoint."
            )
    for name, path in checkpoint_files(folder):
        if path.suffix in LOADED_SUFFIXES and name != MANIFEST_NAME and name not in manifest.files:
            yield f"{name}: extra file. The manifest does not list it, but a loader would read it. Remove it."


def _changed_tensors(manifest: CheckpointManifest, weights: _Weights, file: str) -> str:
    """The first tensors in a file that differ from the manifest, as a list in words."""
    in_file = [tensor for tensor, its_file in weights.file_of.items() if its_file == file]
    return first_of([name for name in in_file if manifest.tensors.get(name) != weights.tensors[name]])


def _codec_problems(manifest: CheckpointManifest) -> Iterator[str]:
    try:
        if manifest.codec is not None:
            manifest.codec.codec_settings()
    except CheckpointError as e:
        yield str(e)


def _digest_problems(manifest: CheckpointManifest, base_folder: Path, digest: str) -> Iterator[str]:
    if manifest.base is not None and manifest.base.digest != digest:
        yield (
            f"the manifest says it was finetuned from {manifest.base.name} (weights {manifest.base.digest[:12]}…), but "
            f"{base_folder} holds other weights ({digest[:12]}…). Give the folder of the right base."
        )


def _base_problems(manifest: CheckpointManifest, base_folder: Path) -> Iterator[str]:
    """Differences in form between the tensors and the base's, or no difference in value."""
    try:
        base = read_tensor_table(base_folder)
    except CheckpointError as e:
        yield f"base: {e}"
        return
    yield from _digest_problems(manifest, base_folder, table_digest(base))
    shared = sorted(manifest.tensors.keys() & base.keys())
    is_same_format = has_mxfp4_tensors(base) == has_mxfp4_tensors(manifest.tensors)
    if is_same_format and manifest.tensors.keys() != base.keys():
        yield f"its tensor names are not those of the base {base_folder}. Export the checkpoint again."
    for name in shared:
        tuned, original = manifest.tensors[name], base[name]
        if (tuned.shape, tuned.dtype) != (original.shape, original.dtype):
            yield f"{name}: {tuned.dtype} {tuned.shape} where the base has {original.dtype} {original.shape}."
    if all(manifest.tensors[name] == base[name] for name in shared):
        yield "the weights equal those of the base: the training was a silent no-op."
