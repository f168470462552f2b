"""Text of clients as a key that both databases can store and index."""

from __future__ import annotations

import hashlib

MAX_LENGTH = 200
"""Characters of a key. PostgreSQL refuses to index texts of more than about 2,700 bytes."""


def text_key(text: str) -> str:
    """The text itself, or its digest if the text is too long or has a NUL, which PostgreSQL cannot store."""
    if len(text) <= MAX_LENGTH and "\0" not in text:
        return text
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
