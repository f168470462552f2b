"""Fuzzy match, by rapidfuzz."""

from __future__ import annotations

from rapidfuzz import fuzz, utils


def fuzzy_match(text: str, reference: str) -> float:
    """rapidfuzz's weighted ratio, 0 to 1: letters and digits only, any case, and words in another order count too.

    OpenAI says only that its fuzzy_match uses rapidfuzz; this is the function that its guide "Graders" shows.
    """
    return fuzz.WRatio(text, reference, processor=utils.default_process) / 100
