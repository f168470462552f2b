"""What people see of a text: two texts have the same visible form if they differ only in case, spaces and punctuation.

Everything else counts: marks that change a letter, signs and digits, emoji, and letters of any script.
"""

from __future__ import annotations

import re
import unicodedata

_STRAIGHT = {
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("‘’‚‛′", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
}
"""ASCII's dash and quotation marks for typographic ones."""

_LATIN_SPECIALS = "¡¿«»\xad".encode("latin-1")
"""What has to be folded of Latin-1."""

_WIDTH_RANGES = ((0x3000, 0x3000), (0xFB00, 0xFB06), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC), (0xFF01, 0xFFEF))
"""Characters that are others in another width or position: full-width letters, Latin and Arabic ligatures."""

_TABLE: dict[int, str | None] = {
    **{
        code: unicodedata.normalize("NFKC", chr(code))
        for first, last in _WIDTH_RANGES
        for code in range(first, last + 1)
        if unicodedata.normalize("NFKC", chr(code)) != chr(code)
    },
    **{ord(mark): plain for mark, plain in _STRAIGHT.items()},
    # Invisible: soft hyphen, zero-width space, direction marks, word joiner, byte order mark, emoji selectors. The
    # joiners U+200C and U+200D stay: they change how letters and emoji look.
    **dict.fromkeys([0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A)]),
    **dict.fromkeys([0xFEFF, 0xFE0E, 0xFE0F]),
}  # fmt: skip

_FOREIGN_MARKS = re.compile(r"(?<!\d)[。．｡！？、､，：；…‥‼⁇⁈⁉¿¡؟،؛۔।॥၊။។៕፡።፣፤։՞՜༎་]+|[。｡、､…‥¿¡؟؛۔।॥]+(?!\d)")
"""Sentence punctuation of all scripts but ASCII's, unless it stands in a number."""

_ENDS = re.compile(r"[.,;:!?](?<=[^ .,;:!?].)(?<!\d!)[.,;:!?]*+(?=[\"']*(?: |$))", re.DOTALL)
"""ASCII's sentence punctuation at the end of a word. Within one it counts, as in 1.5 and x.y; so does a sign by
itself."""

_END_AFTER_DIGIT = re.compile(r"(?<=\d)![.,;:!?]*+(?=[\"']*(?: |$))")
_NUMBER = re.compile(r"[-+(]*\d[\d.,]*")

_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u3005-\u30ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that are written without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Kana, Han."""

_SPACES_IN_UNSPACED = re.compile(rf"(?<=[{_UNSPACED}]) | (?=[{_UNSPACED}])")


MAX_CHARACTERS = 1 << 20
"""Longer texts are compared as they are: cut into words, they would take many times their memory."""


def visible_form(text: str) -> str:
    """The text without differences of case, spaces, sentence punctuation, width and composition."""
    if len(text) > MAX_CHARACTERS:
        return text
    if text.isascii() or _is_plain_latin(text):
        return _plain_form(text)
    straight = text
    for mark, plain in _STRAIGHT.items():
        straight = straight.replace(mark, plain)
    return _plain_form(straight) if _is_plain_latin(straight) else _folded_form(text)


def _is_plain_latin(text: str) -> bool:
    """Whether only case, spaces and ASCII's punctuation of the text need to be folded."""
    if text.isascii():
        return True
    try:
        latin = text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return len(latin.translate(None, _LATIN_SPECIALS)) == len(latin)


def _folded_form(text: str) -> str:
    """The visible form of any text; several times slower than what Western languages need."""
    folded = _FOREIGN_MARKS.sub(" ", text).translate(_TABLE)
    return _SPACES_IN_UNSPACED.sub("", _plain_form(unicodedata.normalize("NFC", folded)))


def _plain_form(text: str) -> str:
    """The lower-case words, with one space between them; the text itself if it is punctuation only."""
    spaced = " ".join(text.split())
    plain = _END_AFTER_DIGIT.sub(_without_end, spaced) if "!" in spaced else spaced
    plain = _ENDS.sub("", plain)
    if plain.endswith(("!", "?")) and (before := plain.rstrip("!?")).endswith(" "):
        plain = before.rstrip()  # French has a space before ? and !.
    # lower, not casefold: casefold makes ß and ss equal, which are different words (Maße, Masse).
    return plain.lower() or spaced


def _without_end(match: re.Match[str]) -> str:
    """What stays of punctuation that begins with ! after a digit: all of it after a number (5!), else nothing."""
    text, start = match.string, match.start()
    return match.group() if _NUMBER.fullmatch(text, text.rfind(" ", 0, start) + 1, start) else ""
