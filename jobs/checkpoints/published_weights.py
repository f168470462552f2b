"""Weights in the form in which OpenAI publishes GPT-OSS: experts in MXFP4, in several shards.

For small models that stand for a published one, in rehearsals and tests.
"""

from __future__ import annotations

from pathlib import Path

from jobs.checkpoints.mxfp4_checkpoint import write_mxfp4
from jobs.checkpoints.shards import ShardWriter, TensorReader
from tuneyard.checkpoints.layout.json_files import read_json, write_json
from tuneyard.checkpoints.validation import INDEX_NAME

SHARD_BYTES = 250_000
"""Gives a model of tiny-oss-random's size three shards, as gpt-oss-20b has."""


def write_published_weights(base: Path, target: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Writes the published form of `base` to the new folder `target`, as `hf download` leaves it: without a manifest.

    `base` has one weights file, unquantised. Shards are numbered from 0, as in the published models, and the blocks of
    a matrix may lie in another shard than its scales.
    """
    target.mkdir()
    write_mxfp4(base, target)
    config = read_json(target / "config.json")
    config.pop("rope_parameters", None)  # transformers 5 added it
    write_json(target / "config.json", config)
    reader = TensorReader(target)
    tensors = {name: reader.read(name) for name in sorted(reader.names, key=lambda name: ("_blocks" not in name, name))}
    (target / "model.safetensors").unlink()
    writer = ShardWriter(target, shard_bytes)
    for name, tensor in tensors.items():
        writer.add(name, tensor)
    writer.close()
    _number_from_zero(target)


def _number_from_zero(folder: Path) -> None:
    shards = sorted(folder.glob("model-*.safetensors"))
    names = {path.name: f"model-{index:05d}-of-{len(shards) - 1:05d}.safetensors" for index, path in enumerate(shards)}
    for old, new in names.items():
        (folder / old).rename(folder / f".{new}")
    for new in names.values():
        (folder / f".{new}").rename(folder / new)
    index = read_json(folder / INDEX_NAME)
    index["weight_map"] = {tensor: names[file] for tensor, file in index["weight_map"].items()}
    write_json(folder / INDEX_NAME, index)
