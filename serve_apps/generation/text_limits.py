"""The limits of a text that a tokenizer must encode: its length, and its runs of characters without a break."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable

from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import RequestError

MAX_TOKEN_CHARACTERS = 128
"""Length of the longest token of OpenAI's vocabulary o200k, a run of spaces."""

SHORT_RUN_CHARACTERS = 256
"""Runs below this length are not counted: every text has them, and they cost no more than other text."""

_SPACES = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
"""Unicode's White_Space. Python's \\s has four control characters more, which tokenizers count as punctuation."""


@functools.cache
def run_pattern(shortest: int = SHORT_RUN_CHARACTERS) -> re.Pattern[str]:
    """Matches each run of at least `shortest` letters, punctuation marks or spaces, in linear time.

    The classes are those of o200k's own pattern: letters with combining marks, spaces, and all else but numbers. Marks
    and characters that this Python's Unicode does not know yet count as both letters and punctuation.
    """
    letters = _character_ranges("L", "M", "Cn")
    letters_and_numbers = _character_ranges("L", "N")
    # The lookbehind lets a match begin at the start of a run only. Without it, a run that is too short would be tried
    # again from each of its characters, which takes the square of its length.
    classes = (f"[{letters}]", f"[^{letters_and_numbers}{_SPACES}]", f"[{_SPACES}]")
    return re.compile("|".join(f"(?<!{group}){group}{{{shortest},}}" for group in classes))


def _character_ranges(*categories: str) -> str:
    """The characters of Unicode categories, by the beginning of their names, as the content of a regex class."""
    ranges = ["\U00040000-\U000dffff"] if "Cn" in categories else []  # planes without any character
    first = last = -2
    for code in (*range(0x40000), *range(0xE0000, 0x110000)):
        if not unicodedata.category(chr(code)).startswith(categories):
            continue
        if code != last + 1:
            ranges.append(f"{re.escape(chr(first))}-{re.escape(chr(last))}" if first >= 0 else "")
            first = code
        last = code
    return "".join(ranges) + f"{re.escape(chr(first))}-{re.escape(chr(last))}"


def check_texts(texts: Iterable[str], context_tokens: int, limits: HttpLimits, param: str) -> None:
    """Refuses texts before they are encoded: more than the context can hold, and long runs without a break.

    The tokenizer never splits inside a run of letters, punctuation or spaces, and the time to encode a run grows with
    the square of its length. Takes time that is linear in the texts. Raises RequestError, with `param` as the field.
    """
    characters = 0
    squares = 0
    for text in texts:
        characters += len(text)
        for run in run_pattern().finditer(text):
            length = run.end() - run.start()
            squares += length**2
            if length >= limits.run_characters:
                raise RequestError(
                    f"The text has {length:,} letters, punctuation marks or spaces without a break, beginning with "
                    f"{run[0][:8]!r}; the number must be below {limits.run_characters:,} (http.limits.run_characters). "
                    "Break it up.",
                    param=param,
                    code="limit_exceeded",
                )
    if characters > context_tokens * MAX_TOKEN_CHARACTERS:
        raise RequestError(
            f"This model's maximum context length is {context_tokens} tokens. However, the request has {characters:,} "
            "characters of text, more than so many tokens can hold. Please shorten it.",
            param=param,
            code="context_length_exceeded",
        )
    most = limits.long_runs * limits.run_characters**2
    if squares > most:
        raise RequestError(
            f"The text has letters, punctuation marks or spaces without a break that take as long to encode as "
            f"{squares / limits.run_characters**2:,.1f} runs of {limits.run_characters:,}; the number must be at most "
            f"{limits.long_runs} (http.limits.long_runs). Break them up.",
            param=param,
            code="limit_exceeded",
        )
