"""Base checkpoints as OpenAI publishes them: experts in MXFP4, several shards, config files that name no dtype."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer

from jobs.bases.checkpoint_files import write_weights
from jobs.bases.published_form import published_config, write_published_form
from jobs.bases.tiny_oss import CARD, SIZES, random_weights
from jobs.checkpoints.published_weights import SHARD_BYTES
from jobs.checkpoints.published_weights import write_published_weights as download_mxfp4
from tuneyard.checkpoints.adoption import adopt_checkpoint

__all__ = ["PublishedBase", "Size", "build_published_base", "download_mxfp4", "publish_mxfp4"]

Size = Literal["20b", "120b"]

SMALL_SIZES = {
    "20b": SIZES,
    # Of gpt-oss-120b: all 36 layers, because names with two digits sort in another order than the layers; four times as
    # many experts as the small gpt-oss-20b, and as many for each token as both published models have.
    "120b": SIZES
    | {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_experts_per_tok": 4,
        "num_hidden_layers": 36,
        "num_local_experts": 32,
    },
}
"""The fields of config.json that are smaller than published."""

SMALL_SHARD_BYTES = {"20b": SHARD_BYTES, "120b": 290_000}
"""Give as many shards as are published: 3 and 15."""


@dataclass(frozen=True, slots=True)
class PublishedBase:
    """A small model in three forms, with the same tokenizer and equal experts as far as MXFP4 can hold them."""

    size: Size
    unquantised: Path
    """BF16 in one file, with portable config files and a manifest."""
    downloaded: Path
    """As `hf download` leaves it: MXFP4 experts, several shards, without a manifest."""
    adopted: Path
    """`downloaded` after `tuneyard models adopt`."""


def build_published_base(size: Size, tokenizer: Tokenizer, folder: Path) -> PublishedBase:
    """Builds all three forms of the small model in the existing folder."""
    built = PublishedBase(size, *(folder / name for name in ("unquantised", "downloaded", "adopted")))
    built.unquantised.mkdir()
    config = published_config(SMALL_SIZES[size], tokenizer)
    write_published_form(built.unquantised, config, tokenizer)
    write_weights(built.unquantised, random_weights(config, seed=0))
    (built.unquantised / "README.md").write_text(CARD, encoding="utf-8")
    download_mxfp4(built.unquantised, built.downloaded, SMALL_SHARD_BYTES[size])
    shutil.copytree(built.downloaded, built.adopted)
    adopt_checkpoint(built.adopted, "published")
    adopt_checkpoint(built.unquantised, "unquantised")
    return built


def publish_mxfp4(base: Path, target: Path) -> None:
    """The published form of `base` in the new folder `target`, adopted: with portable config files and a manifest."""
    download_mxfp4(base, target)
    adopt_checkpoint(target, "published")
