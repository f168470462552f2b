"""Finds rows of a dataset that repeat an earlier row, exactly or except for case, spaces and punctuation."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from tuneyard.chats.dataset import content_bytes
from tuneyard.chats.messages import ChatExample
from tuneyard.chats.row_reader import RowProblem

_EXACT_BITS = 24


class DuplicateFinder:
    """Compares each row with all rows before it. Memory: about 100 bytes per row, for hashes and the row's number."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        """Hash of the normalized row -> line number, held-out flag and hash of the exact row, packed into one int."""

    def find_problem(self, example: ChatExample, *, is_heldout: bool) -> RowProblem | None:
        """The problem of a row that repeats an earlier one; None for the first of its kind.

        A held-out row that repeats a training row is leakage, so all training rows must come first.
        """
        exact, normalized = _hashes(example)
        seen = self._seen.get(normalized)
        if seen is None:
            line = int(match.group()) if (match := re.search(r"\d+(?=\D*$)", example.source)) else 0
            self._seen[normalized] = (line << 1 | is_heldout) << _EXACT_BITS | exact
            return None
        line, was_heldout = seen >> _EXACT_BITS + 1, bool(seen >> _EXACT_BITS & 1)
        is_exact = seen & (1 << _EXACT_BITS) - 1 == exact
        earlier = f"row or line {line}"
        if is_heldout and not was_heldout:
            exception = "" if is_exact else " except for case, spaces and punctuation"
            text = (
                f"this held-out row equals a training row ({earlier}){exception}, so a result on it means nothing. "
                "Remove one of them."
            )
            return RowProblem(example.source, "leakage", text)
        if is_exact:
            return RowProblem(example.source, "duplicate", f"the row is the same as {earlier}. Remove it.")
        text = f"the row is the same as {earlier} except for case, spaces and punctuation. Remove one of them."
        return RowProblem(example.source, "near duplicate", text)


def _hashes(example: ChatExample) -> tuple[int, int]:
    """24 bits of the exact content, and 63 bits of the content without case, spaces and punctuation."""
    exact = hashlib.blake2b(content_bytes(example), digest_size=_EXACT_BITS // 8).digest()
    messages = [f"{m.role}\x00{m.content}\x00{m.reasoning_content}\x00{m.tool_calls}" for m in example.messages]
    words = " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", "\x01".join(messages)).casefold()))
    normalized = hashlib.blake2b(words.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(exact), int.from_bytes(normalized) >> 1
