"""Checkpoints: a folder with HF weights, config, tokenizer and a manifest that proves them.

This is the surface to import from; the parts live in checkpoint_manifest, checkpoint_staging, gpt_oss_layout
and safetensors_header. Nothing here imports torch or transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tuneyard.checkpoints.layout.gpt_oss import (
    config_problems,
    read_json,
    tensor_problems,
    tokenizer_problems,
)
from tuneyard.checkpoints.layout.safetensors_header import FileEntry, TensorEntry, hash_file, hash_safetensors
from tuneyard.checkpoints.manifest import (
    MANIFEST_NAME,
    CheckpointManifest,
    read_manifest,
    read_tensor_table,
    table_digest,
)
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import first_of

INDEX_NAME = "model.safetensors.index.json"
LOADED_SUFFIXES = (".safetensors", ".bin", ".json", ".jinja", ".py", ".model")
"""Files that a loader acts on, so one that the manifest does not know is a problem."""


def validate_hf_checkpoint(folder: Path, base: Path | None = None) -> CheckpointManifest:
    """The manifest of a checkpoint that is exactly what its manifest and config.json say.

    Every byte is read. With `base`, the folder of the checkpoint that it was tuned from: names, shapes and
    dtypes must be the base's and at least one tensor must differ (experts aside, where one is MXFP4 and the other
    is not). Raises one CheckpointError that lists every problem found.
    """
    folder = Path(folder)
    problems: list[str] = []
    manifest = None
    try:
        manifest = read_manifest(folder)
    except CheckpointError as e:
        if not folder.is_dir():
            raise
        problems.append(str(e))
    weights = _Weights(folder)
    problems += [*weights.problems, *_layout_problems(folder, weights)]
    if manifest is not None:
        problems += _file_problems(folder, manifest, weights)
        problems += _base_problems(manifest, base) if base is not None else []
    if problems or manifest is None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise CheckpointError(f"{folder} is not a valid checkpoint: {count}\n  " + "\n  ".join(problems))
    return manifest


class _Weights:
    """The safetensors files that lie in the folder, whatever the manifest says about them."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, FileEntry] = {}
        self.tensors: dict[str, TensorEntry] = {}
        self.file_of: dict[str, str] = {}
        self.problems: list[str] = []
        for path in sorted(folder.glob("*.safetensors")):
            try:
                self.files[path.name], tensors = hash_safetensors(path)
            except CheckpointError as e:
                self.problems.append(str(e))
                continue
            self.problems += [
                f"{path.name}: {name} also lies in {self.file_of[name]}." for name in tensors if name in self.file_of
            ]
            self.tensors |= tensors
            self.file_of |= dict.fromkeys(tensors, path.name)


def _layout_problems(folder: Path, weights: _Weights) -> Iterator[str]:
    try:
        config = read_json(folder / "config.json")
    except CheckpointError as e:
        yield str(e)
        return
    yield from config_problems(config)
    yield from tokenizer_problems(folder, config)
    # Names and shapes of files that cannot be read would only bury the problem that matters.
    if not weights.problems:
        yield from tensor_problems(config, weights.tensors)
        yield from _index_problems(folder, weights)


def _index_problems(folder: Path, weights: _Weights) -> Iterator[str]:
    """Whether a loader finds every tensor in the file where it looks for it."""
    if not (folder / INDEX_NAME).exists():
        if strays := sorted(weights.files.keys() - {"model.safetensors"}):
            yield f"{', '.join(strays)}: no loader reads it, for there is no {INDEX_NAME}. Export the weights again."
        return
    try:
        listed = read_json(folder / INDEX_NAME).get("weight_map")
    except CheckpointError as e:
        yield str(e)
        return
    if listed != weights.file_of:
        yield f"{INDEX_NAME}: does not say where the tensors lie. Export the weights again."


def _file_problems(folder: Path, manifest: CheckpointManifest, weights: _Weights) -> Iterator[str]:
    """How the files differ from the manifest's."""
    for name, entry in sorted(manifest.files.items()):
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing, the manifest lists it. Copy the checkpoint again."
        elif path.stat().st_size != entry.size_bytes:
            yield f"{name}: {path.stat().st_size} bytes where the manifest says {entry.size_bytes}. Copy it again."
        elif (found := weights.files.get(name) or hash_file(path)).sha256 != entry.sha256:
            changed = _changed_tensors(manifest, weights, name)
            yield (
                f"{name}: sha256 {found.sha256[:12]}… where the manifest says {entry.sha256[:12]}…: it was changed or "
                f"damaged after it was written (tensors: {changed}). Copy it again, or write a new checkpoint."
            )
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in LOADED_SUFFIXES):
        name = path.relative_to(folder).as_posix()
        if name != MANIFEST_NAME and name not in manifest.files:
            yield f"{name}: extra, the manifest does not list it, and a loader would act on it. Remove it."


def _changed_tensors(manifest: CheckpointManifest, weights: _Weights, file: str) -> str:
    """The tensors of a file that are not the manifest's, in words."""
    inside = [tensor for tensor, home in weights.file_of.items() if home == file]
    return first_of([name for name in inside if manifest.tensors.get(name) != weights.tensors[name]])


def _base_problems(manifest: CheckpointManifest, base_folder: Path) -> Iterator[str]:
    """How the tensors relate to the base's: of the same form, and not the same values."""
    try:
        base = read_tensor_table(base_folder)
    except CheckpointError as e:
        yield f"base: {e}"
        return
    if manifest.base is not None and manifest.base.digest != (found := table_digest(base)):
        yield (
            f"the manifest says it was tuned from {manifest.base.name} (weights {manifest.base.digest[:12]}…), "
            f"but {base_folder} holds others ({found[:12]}…)."
        )
    both = sorted(manifest.tensors.keys() & base.keys())
    if _is_mxfp4(base) == _is_mxfp4(manifest.tensors) and manifest.tensors.keys() != base.keys():
        yield f"its tensor names are not those of the base {base_folder}."
    for name in both:
        tuned, original = manifest.tensors[name], base[name]
        if (tuned.shape, tuned.dtype) != (original.shape, original.dtype):
            yield f"{name}: {tuned.dtype} {tuned.shape} where the base has {original.dtype} {original.shape}."
    if all(manifest.tensors[name] == base[name] for name in both):
        yield "the tuned weights equal the base: the training was a silent no-op."


def _is_mxfp4(tensors: Mapping[str, TensorEntry]) -> bool:
    return any(name.endswith("_blocks") for name in tensors)
