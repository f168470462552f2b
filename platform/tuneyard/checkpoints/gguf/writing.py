"""Writes a checkpoint as one GGUF file, in bounded memory, complete or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tuneyard.checkpoints.gguf.gguf_types import FILE_TYPES, GgufType
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.layout.portable import make_config_portable
from tuneyard.checkpoints.manifest import MANIFEST_NAME, read_manifest
from tuneyard.checkpoints.staging import staging_folder
from tuneyard.core.errors import CheckpointError, MissingDependencyError, StorageFullError
from tuneyard.harmony.chat_template.template import chat_template
from tuneyard.harmony.settings import CodecSettings

if TYPE_CHECKING:
    import gguf

    from tuneyard.checkpoints.gguf.model_tensors import GgufTensor
    from tuneyard.checkpoints.gguf.stored_tensors import StoredTensors

Progress = Callable[[int, int], None]
"""Called with the bytes of tensors that are written, and those of all tensors."""


@dataclass(frozen=True, slots=True)
class GgufSummary:
    """What write_gguf wrote."""

    size_bytes: int
    dtypes: dict[str, int]
    """The number of tensors of each GGUF dtype."""


def write_gguf(
    checkpoint: Path, out: Path, kind: GgufType, *, on_progress: Progress | None = None, with_text: bool = True
) -> GgufSummary:
    """Writes the GPT-OSS checkpoint in the folder `checkpoint` to the file `out`, which must not exist.

    `with_text=False` gives the tokens no text, for a program that passes ids only (see add_bare_vocabulary).

    The memory it needs is that of one expert matrix in fp32, and of the tokenizer. The file appears at `out` when it is
    complete and flushed to the disk; whatever interrupts the writing leaves nothing.

    Raises CheckpointError for a checkpoint that llama.cpp cannot run, one whose experts are not MXFP4 when `kind` asks
    for it, and a file that exists; StorageFullError when the disk has too little space, before it writes if it can be
    known; MissingDependencyError without the package gguf.
    """
    tensors, config = _plan(checkpoint, kind)
    out = Path(out).absolute()
    check_space(out, sum(tensor.size_bytes for tensor in tensors))
    with staging_folder(out) as staging:
        partial = staging / out.name
        _write(partial, checkpoint, config, kind, tensors, on_progress or (lambda _written, _total: None), with_text)
        size = partial.stat().st_size
        partial.rename(out)
    dtypes = [tensor.dtype for tensor in tensors]
    return GgufSummary(size, {dtype: dtypes.count(dtype) for dtype in sorted(set(dtypes))})


def gguf_size(checkpoint: Path, kind: GgufType) -> int:
    """The bytes of the tensors of the file that write_gguf would write, from the headers of the checkpoint's weights.

    Raises CheckpointError and MissingDependencyError as write_gguf does.
    """
    return sum(tensor.size_bytes for tensor in _plan(checkpoint, kind)[0])


def check_space(out: Path, needed: int) -> None:
    """Raises CheckpointError if the file `out` exists, and StorageFullError if its disk has not `needed` bytes free."""
    if out.exists():
        raise CheckpointError(f"{out} already exists. Delete it, or choose another file.")
    existing = next(folder for folder in out.parents if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StorageFullError(
            f"{out}: {existing} has {free / 1e9:.1f} GB free, but the file takes {needed / 1e9:.1f} GB. Free space, or "
            "choose another disk."
        )


def _plan(checkpoint: Path, kind: GgufType) -> tuple[list[GgufTensor], dict[str, Any]]:
    """The tensors of the file, and the checkpoint's config.json with all rope fields."""
    try:
        from tuneyard.checkpoints.gguf.hyperparameters import check_config
        from tuneyard.checkpoints.gguf.model_tensors import plan_tensors
    except ModuleNotFoundError as e:
        if e.name != "gguf":
            raise
        raise MissingDependencyError("Writing GGUF files needs the package gguf: pip install 'tuneyard[gguf]'") from e
    config = make_config_portable(read_json(checkpoint / "config.json"))
    check_config(config)
    return plan_tensors(checkpoint, config, kind), config


def _write(
    path: Path,
    checkpoint: Path,
    config: dict[str, Any],
    kind: GgufType,
    tensors: list[GgufTensor],
    report: Progress,
    with_text: bool,
) -> None:
    import gguf
    import numpy as np

    from tuneyard.checkpoints.gguf.hyperparameters import GGUF_ARCHITECTURE, add_hyperparameters
    from tuneyard.checkpoints.gguf.stored_tensors import StoredTensors
    from tuneyard.checkpoints.gguf.vocabulary import add_bare_vocabulary, add_vocabulary

    writer = gguf.GGUFWriter(path, GGUF_ARCHITECTURE)
    try:
        _add_origin(writer, checkpoint, kind)
        add_hyperparameters(writer, config)
        if with_text:
            add_vocabulary(writer, checkpoint, config["vocab_size"])
        else:
            add_bare_vocabulary(writer, config["vocab_size"])
        for tensor in tensors:
            dtype = gguf.GGMLQuantizationType[tensor.dtype]
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.size_bytes, dtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        stored = StoredTensors(checkpoint)
        written, total = 0, sum(tensor.size_bytes for tensor in tensors)
        for tensor in tensors:
            # The writer takes a numpy array; of its methods it calls only those that _StreamedTensor has.
            writer.write_tensor_data(_StreamedTensor(tensor, stored))
            written += tensor.size_bytes
            report(written, total)
        writer.flush()
        assert writer.fout is not None
        os.fsync(writer.fout[0].fileno())
    finally:
        writer.close()


class _StreamedTensor:
    """A tensor that is encoded while the writer writes it, as the package's own LazyNumpyTensor is."""

    def __init__(self, tensor: GgufTensor, stored: StoredTensors) -> None:
        self.nbytes = tensor.size_bytes
        self._tensor = tensor
        self._stored = stored

    def tofile(self, file: BinaryIO) -> None:
        for piece in self._tensor.pieces(self._stored):
            # Not piece.tofile: its error names no cause when the disk is full.
            file.write(piece.data)


def _add_origin(writer: gguf.GGUFWriter, checkpoint: Path, kind: GgufType) -> None:
    """Names the model, the checkpoint that the file was made from, and the template of its prompts.

    A checkpoint without a manifest has the default settings of prompts.
    """
    writer.add_type("model")
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(2)
    manifest = read_manifest(checkpoint) if (checkpoint / MANIFEST_NAME).exists() else None
    codec = manifest.codec if manifest is not None else None
    settings = codec.codec_settings() if codec is not None else CodecSettings()
    writer.add_chat_template(chat_template(settings))
    if manifest is None:
        writer.add_name(checkpoint.name)
        return
    writer.add_name(manifest.name)
    writer.add_version(manifest.version)
    writer.add_string("tuneyard.checkpoint.digest", manifest.digest)
    if manifest.base is not None:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, manifest.base.name)
