"""Text with its words replaced by unrelated ones of the same length and script.

The result depends on the text's outline only: which characters are letters, marks or digits of which script and case,
and what stands between them. Two texts with the same outline get the same result, so nothing of the words can be read
from it, not even by comparing it with guesses.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from functools import lru_cache

from tuneyard.harmony.tokenizer_file.tokenizer_rules import SPECIAL_TOKENS

_WORDS = """
    a i an as at by in is it of on or so to up we all and any are but can day few for how its may new not now one
    our out see the two use was way who you also back been both each even ever find from give good have here into
    just keep know like line long look made make many more most much name need next only open over part some such
    take than that them then they this time very want well what when will with work year about after again below
    could every first found great later light never often other place point right small still there these thing
    think three under water where which while world would across always answer around before better change enough
    follow future little moment number people please rather should simple steady though toward winter another
    because between brought certain company country current further general however meeting morning nothing outside
    picture present problem provide quickly several special station thought through together tomorrow usually
    actually although business children complete consider continue describe distance evidence exercise question
    somebody standard afternoon available beginning certainly character different difficult direction everybody
    following important necessary otherwise situation something sometimes yesterday completely everything experience
    generation industrial particular production reasonable understand
""".split()  # noqa: SIM905

_SCRIPTS = (
    (0x00C0, 0x024F), (0x1E00, 0x1EFF),  # Latin letters beyond ASCII
    (0x1100, 0x11FF), (0x1200, 0x139F), (0x1400, 0x167F), (0x3040, 0x309F), (0x30A0, 0x30FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xAC00, 0xD7A3), (0x12000, 0x123FF), (0x13000, 0x1342F),
    (0x17000, 0x187F7), (0x1D400, 0x1D7FF), (0x20000, 0x2A6DF), (0x30000, 0x3134A),
)  # fmt: skip
"""First and last code point of scripts with more than 128 characters. The others fill blocks of 128 each."""

_KEPT_MARKS = frozenset(map(chr, [*range(0xFE00, 0xFE10), 0x20E3]))
"""Marks that make an emoji of a character."""

_SPECIAL = re.compile("(" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")
_PIECE = re.compile("[A-Za-z]+|[^A-Za-z]")


def anonymise_text(text: str, variant: int = 0) -> str:
    """The text with every letter, mark and digit replaced; all other characters, and special tokens that it spells, are
    kept. Another `variant` gives other words.
    """
    pieces = _SPECIAL.split(text)
    outline = "".join(piece if number % 2 else _outline(piece) for number, piece in enumerate(pieces))
    seed = hashlib.sha256(f"{variant}:{outline}".encode(errors="surrogatepass")).digest()
    words = random.Random(int.from_bytes(seed))
    return "".join(piece if number % 2 else _fill(_outline(piece), words) for number, piece in enumerate(pieces))


def _outline(text: str) -> str:
    """The text with each letter, mark and digit replaced by the first one of its kind."""
    return "".join(map(_first_of_kind, text))


@lru_cache(maxsize=4096)
def _first_of_kind(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] not in "LMN" or character in _KEPT_MARKS:
        return character
    return _candidates(*_range_of(ord(character)), category)[0]


def _range_of(code: int) -> tuple[int, int]:
    block = code & ~0x7F
    return next(((first, last) for first, last in _SCRIPTS if first <= code <= last), (block, block + 0x7F))


@lru_cache(maxsize=256)
def _candidates(first: int, last: int, category: str) -> str:
    """The characters of a category between two code points."""
    return "".join(
        character
        for character in map(chr, range(first, last + 1))
        if unicodedata.category(character) == category and character not in _KEPT_MARKS
    )


def _fill(outline: str, words: random.Random) -> str:
    return "".join(
        _word(piece, words) if piece.isascii() and piece.isalpha() else _character(piece, words)
        for piece in _PIECE.findall(outline)
    )


def _character(kind: str, words: random.Random) -> str:
    category = unicodedata.category(kind)
    if category[0] not in "LMN" or kind in _KEPT_MARKS:
        return kind
    return words.choice(_candidates(*_range_of(ord(kind)), category))


def _word(outline: str, words: random.Random) -> str:
    """Words with as many letters as the outline together, in its upper and lower case."""
    text = ""
    while missing := len(outline) - len(text):
        text += words.choice(_WORDS_BY_LENGTH[min(missing, _LONGEST_WORD)])
    return "".join(new.upper() if old.isupper() else new for old, new in zip(outline, text, strict=True))


_LONGEST_WORD = max(map(len, _WORDS))
_WORDS_BY_LENGTH = {length: [word for word in _WORDS if len(word) == length] for length in range(1, _LONGEST_WORD + 1)}
