"""The split of a dataset file, read from its path as the Hugging Face hub does: `data/train-00000-of-00002.parquet`."""

from __future__ import annotations

import re

_SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "heldout": "heldout", "holdout": "heldout",
}  # fmt: skip
"""Words in names of files and folders, and their splits
(https://huggingface.co/docs/hub/datasets-file-names-and-splits)."""

_SHARD = re.compile(r"(?P<split>\w+(?:\.\w+)*)-\d+-of-\d+", re.ASCII)
_WORDS_HELD_OUT = re.compile(r"(held|hold)[ _-]out", re.IGNORECASE)


def split_of(name: str) -> str:
    """The split of the file at a relative path; "" if the path names none.

    A folder's name counts before the file's, and in a name its first or its last word. Of a shard such as
    `train_sft-00000-of-00003.parquet`, all that stands before the numbers is the split's name.
    """
    *folders, file = _WORDS_HELD_OUT.sub(r"\1out", name).split("/")
    for folder in folders:
        if split := _SPLITS.get(folder.rpartition("=")[2].lower()):  # Spark's partitions: split=train
            return split
    if shard := _SHARD.match(file):
        return _SPLITS.get(shard["split"].lower(), shard["split"])
    words = [word for word in re.split(r"[^a-z0-9]+", file.partition(".")[0].lower()) if word]
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    return next((split for word in (*words[:1], *words[-1:]) if (split := _SPLITS.get(word.strip("0123456789")))), "")


def split_pattern(name: str) -> str:
    """A pattern for the files of the split of the file at a relative path."""
    *folders, file = name.split("/")
    for number, folder in enumerate(folders):
        if folder.rpartition("=")[2].lower() in _SPLITS:
            return "/".join([*folders[: number + 1], "*"])
    shard = _SHARD.match(file)
    return "/".join([*folders, f"{shard['split']}-*" if shard else file])
