"""Writes an unquantised checkpoint as one with MXFP4 experts, in the memory of one shard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from tqdm import tqdm

from jobs.checkpoints.mxfp4 import dequantise, quantise
from jobs.checkpoints.shards import ShardWriter, TensorReader
from tuneyard.checkpoints.layout.gpt_oss import MXFP4_CONFIG, is_expert_matrix
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.manifest import MANIFEST_NAME
from tuneyard.checkpoints.validation import INDEX_NAME
from tuneyard.core.errors import CheckpointError


def write_mxfp4(source: Path, target: Path) -> float:
    """Writes all files of `source` except its manifest to `target`, in the form of openai/gpt-oss-20b.

    Each expert matrix becomes two tensors, `<name>_blocks` and `<name>_scales`; all other tensors are copied. Returns
    the quantisation error of the expert matrices: root mean square of the error, divided by that of the matrices.
    Raises CheckpointError for weights that MXFP4 cannot hold.
    """
    for path in source.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name not in (INDEX_NAME, MANIFEST_NAME):
            shutil.copy(path, target)
    config = read_json(source / "config.json") | {"quantization_config": MXFP4_CONFIG}
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return _write_weights(TensorReader(source), ShardWriter(target))


def _write_weights(reader: TensorReader, writer: ShardWriter) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    squared_error = squared_size = 0.0
    for name in tqdm(reader.names, desc="quantising", unit="tensor", dynamic_ncols=True, disable=None):
        if not is_expert_matrix(name, reader.shape(name)):
            writer.add(name, reader.read(name))
            continue
        quantised = []
        for expert in reader.read_rows(name):
            matrix = expert.to(device).float().T  # [in, out] to [out, in]: blocks run along `in`
            try:
                blocks, scales = quantise(matrix)
            except CheckpointError as e:
                raise CheckpointError(f"{name}: {e}") from e
            squared_error += float((dequantise(blocks, scales) - matrix).square().sum())
            squared_size += float(matrix.square().sum())
            quantised.append((blocks.cpu(), scales.cpu()))
        writer.add(f"{name}_blocks", torch.stack([blocks for blocks, _ in quantised]))
        writer.add(f"{name}_scales", torch.stack([scales for _, scales in quantised]))
    writer.close()
    return float((squared_error / squared_size) ** 0.5) if squared_size else 0.0
