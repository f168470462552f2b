"""Long runs are found in linear time, as their definition says, and refused before anything is encoded."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.generation.text_limits import check_texts, run_pattern
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import RequestError

LIMITS = HttpLimits()
SHORTEST = 3
SPACES = set("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | set(map(chr, range(0x2000, 0x200B)))


def classes(character: str) -> str:
    """The classes of a character, by the definition: s(pace), l(etter), p(unctuation)."""
    category = unicodedata.category(character)
    if character in SPACES:
        return "s"
    is_letter = category[0] in "LM" or category == "Cn"
    is_punctuation = category[0] not in "LN"
    return "l" * is_letter + "p" * is_punctuation


def longest_run(text: str) -> int:
    """The length of the longest run of one class."""
    longest = 0
    for name in "slp":
        count = 0
        for character in text:
            count = count + 1 if name in classes(character) else 0
            longest = max(longest, count)
    return longest


characters = st.characters() | st.sampled_from("aZ1_.- \t\n\x1c\u0301\xa0é字½\U0001f389\u0378")


@given(st.lists(st.tuples(characters, st.integers(1, 5)), max_size=8))
def test_a_run_is_found_if_and_only_if_there_is_one(parts: list[tuple[str, int]]) -> None:
    text = "".join(character * count for character, count in parts)
    found = max((len(run[0]) for run in run_pattern(SHORTEST).finditer(text)), default=0)
    assert (found >= SHORTEST) == (longest_run(text) >= SHORTEST), text


@pytest.mark.parametrize("character", ["a", ".", " ", "_", "字", "\u0301", "\u0378"])
def test_long_runs_are_refused_before_they_are_encoded(character: str) -> None:
    length = LIMITS.run_characters
    check_texts([character * (length - 1)], 1000, LIMITS, "messages")
    with pytest.raises(RequestError, match=r"has 16,384 letters.*must be below 16,384 \(http.limits.run_characters\)"):
        check_texts(["x1", character * length], 1000, LIMITS, "messages")


def test_many_runs_of_allowed_length_are_refused_together() -> None:
    text = ("a" * 16_383 + "1") * 16
    check_texts([text], 131_072, LIMITS, "messages")
    with pytest.raises(RequestError, match=r"as long to encode as 17.0 runs .* at most 16 \(http.limits.long_runs\)"):
        check_texts([text, "a" * 16_383], 131_072, LIMITS, "messages")


def test_text_that_no_context_can_hold_is_refused() -> None:
    with pytest.raises(RequestError, match=r"maximum context length is .* 128,001 characters") as caught:
        check_texts(["a b " * 32_000, "c"], 1000, LIMITS, "prompt")
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")


class CountingPattern:
    """Counts how many characters a scan with `pattern` looks at, by the matches that it tries."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def starts(self, text: str) -> int:
        """Positions of the text at which the pattern reads more than one character."""
        opening = re.compile(re.sub(r"\{\d+,\}", "{2}", self._pattern.pattern))
        return sum(1 for position in range(len(text)) if opening.match(text, position))


@pytest.mark.parametrize("text", ["a" * 2000, ("a" * 255 + "1") * 8, "a1" * 1000, "a." * 1000, " ." * 1000])
def test_a_run_is_read_once_from_its_start(text: str) -> None:
    """The guard is linear: a run shorter than the limit is not tried again from each of its characters."""
    runs = len(re.findall(r"[a]+|\.+| +", text))
    assert CountingPattern(run_pattern()).starts(text) <= runs
