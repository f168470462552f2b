"""A base checkpoint as OpenAI publishes it: experts in MXFP4, several shards, config files that name no dtype."""

from __future__ import annotations

from pathlib import Path

from jobs.checkpoints.mxfp4_checkpoint import write_mxfp4
from jobs.checkpoints.shards import ShardWriter, TensorReader
from tuneyard.checkpoints.adoption import adopt_checkpoint
from tuneyard.checkpoints.layout.json_files import read_json, write_json
from tuneyard.checkpoints.validation import INDEX_NAME

SHARD_BYTES = 250_000
"""Gives tiny-oss-random three shards, as gpt-oss-20b has."""


def publish_mxfp4(base: Path, target: Path) -> None:
    """The published form of `base` in the new folder `target`, adopted: with portable config files and a manifest."""
    download_mxfp4(base, target)
    adopt_checkpoint(target, "published")


def download_mxfp4(base: Path, target: Path) -> None:
    """The published form of `base` as `hf download` leaves it in the new folder `target`: without a manifest.

    `base` has one weights file. Shards are numbered from 0, as in the published models, and the blocks of a matrix may
    lie in another shard than its scales.
    """
    target.mkdir()
    write_mxfp4(base, target)
    config = read_json(target / "config.json")
    del config["rope_parameters"]
    write_json(target / "config.json", config)
    reader = TensorReader(target)
    tensors = {name: reader.read(name) for name in sorted(reader.names, key=lambda name: ("_blocks" not in name, name))}
    (target / "model.safetensors").unlink()
    writer = ShardWriter(target, SHARD_BYTES)
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
