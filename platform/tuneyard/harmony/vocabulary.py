"""The vocabulary of a checkpoint's tokenizer.json: text to ids, ids to bytes, and special tokens by name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tokenizers import Tokenizer

from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import listed
from tuneyard.harmony.tokenizer_file.tokenizer_rules import BYTE_OF_CHARACTER, SPECIAL_TOKENS, tokenizer_rule_problems

MAX_KNOWN_TOKENS = 16_384
"""Tokens whose bytes are kept: not all 200,000 of o200k, because answers mostly have the same ones."""


class ModelVocabulary:
    """The byte-level tokenizer of a checkpoint folder. `sha256` is that of its file, `size` counts all tokens."""

    def __init__(self, checkpoint: Path) -> None:
        """Loads `tokenizer.json`.

        Raises CheckpointError if it is missing, breaks a rule of tokenizer_rules.py, or lacks one of SPECIAL_TOKENS.
        """
        self.checkpoint = Path(checkpoint)
        path = self.checkpoint / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"{path}: not found. A checkpoint folder holds config.json, tokenizer.json and weights."
            )
        data = path.read_bytes()
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._tokenizer = _load(path, data)
        # Text that spells a special token, such as "<|end|>" in a user's question, stays plain text.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        missing = [token for token in SPECIAL_TOKENS if self._tokenizer.token_to_id(token) is None]
        if missing:
            raise CheckpointError(f"{path}: lacks harmony's special tokens {', '.join(missing)}.")
        self.size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self._added = self._tokenizer.get_added_tokens_decoder()
        self._known_bytes: dict[int, bytes] = {}
        """The bytes of the first MAX_KNOWN_TOKENS tokens that `token_bytes` was asked for."""

    def special_id(self, token: str) -> int:
        """The id of one of SPECIAL_TOKENS."""
        token_id = self._tokenizer.token_to_id(token)
        assert token_id is not None
        return int(token_id)

    def token_id(self, text: str) -> int | None:
        """The id of the single token that spells the text, or of the special token with this name; None if neither."""
        special = self._tokenizer.token_to_id(text)
        if special is not None and self.special_name(int(special)) is not None:
            return int(special)
        ids = self.encode_text(text)
        return ids[0] if len(ids) == 1 else None

    def special_name(self, token_id: int) -> str | None:
        """The name of the special token with this id; None for an ordinary token."""
        added = self._added.get(token_id)
        return added.content if added is not None and added.special else None

    def encode_text(self, text: str) -> list[int]:
        """The ids of plain text. They are never special tokens, even if the text spells one."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of an ordinary token; b"" for an id outside the vocabulary."""
        known = self._known_bytes.get(token_id)
        if known is not None:
            return known
        if token_id in self._added:
            data = str(self._added[token_id].content).encode()
        elif (token := self._tokenizer.id_to_token(token_id)) is not None:
            data = bytes(BYTE_OF_CHARACTER[character] for character in token)
        else:
            return b""
        if len(self._known_bytes) < MAX_KNOWN_TOKENS:
            self._known_bytes[token_id] = data
        return data


def _load(path: Path, data: bytes) -> Tokenizer:
    """The tokenizer in `data`, the content of the file `path`."""
    try:
        content = json.loads(data)
        problems = list(tokenizer_rule_problems(content)) if isinstance(content, dict) else ["It is no JSON object."]
    except (ValueError, RecursionError) as e:
        raise CheckpointError(f"{path} cannot be read as JSON: {e}. Copy it again from the model's source.") from e
    if problems:
        raise CheckpointError(f"{path} is not a tokenizer of GPT-OSS:\n{listed(problems)}")
    try:
        return Tokenizer.from_buffer(data)
    except Exception as e:  # the tokenizers library raises no other
        raise CheckpointError(
            f"{path}: the tokenizers library cannot load the file: {e}. Copy it again from the model's source."
        ) from e
