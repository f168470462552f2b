"""Anonymous text: its form is kept, and nothing but its outline decides it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.harmony.anonymous_text import anonymise_text
from tuneyard.harmony.tokenizer_file.tokenizer_rules import SPECIAL_TOKENS

WORDS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [*SPECIAL_TOKENS, "Hello, World!", "jane.doe@acme.com", "+49 170 1234567", "👍🏽❤️1️⃣", "नमस्ते", "你好"]
    ),
)
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)


def kinds(text: str) -> list[str]:
    """The category of each letter, mark and digit; every other character itself."""
    return [
        category if (category := unicodedata.category(c))[0] in "LMN" and not "\ufe00" <= c <= "\ufe0f" else c
        for c in text
    ]


@given(text=TEXTS)
def test_the_form_is_kept(text: str) -> None:
    new = anonymise_text(text)
    assert len(new) == len(text)
    for token in SPECIAL_TOKENS:
        assert new.count(token) == text.count(token)
    assert [kind[0] for kind in kinds(new)] == [kind[0] for kind in kinds(text)]
    assert new == anonymise_text(text)


LETTERS = {
    "latin": "abcdefghijklmnopqrstuvwxyz",
    "capital": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "digit": "0123456789",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "devanagari": "कखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसह",
    "han": "一丁七万三上下不与且世丘丙业东两严中龙鿕",
    "hangul": "가각간갈감강개거건걸검겨결경고공힣",
    "kana": "あいうえおかきくけこさしすせそ",
}


@given(data=st.data(), outline=st.lists(st.sampled_from([*LETTERS, " ", ", ", "-", "<|end|>", "👍"]), max_size=40))
def test_texts_with_one_outline_become_the_same_text(data: st.DataObject, outline: list[str]) -> None:
    """So no word can be found by comparing its replacement with those of guesses."""
    left, right = (
        "".join(data.draw(st.sampled_from(LETTERS[kind])) if kind in LETTERS else kind for kind in outline)
        for _ in range(2)
    )
    assert anonymise_text(left) == anonymise_text(right)


@pytest.mark.parametrize("script", sorted(LETTERS))
def test_letters_stay_in_their_script(script: str) -> None:
    text = LETTERS[script] * 20
    names = {unicodedata.name(c).split()[0].removesuffix("-4E00") for c in anonymise_text(text)}
    assert names <= {unicodedata.name(c).split()[0].removesuffix("-4E00") for c in text} | {"CJK", "COPTIC"}
    assert anonymise_text(text) != text


def test_words_are_replaced_by_words() -> None:
    new = anonymise_text("Please refund order 4711 for Jane Doe, jane@acme.com!\n")
    assert new.isascii()
    assert not {"refund", "order", "Jane", "Doe", "jane", "acme", "4711"} & set(new.replace(",", " ").split())
    assert (new[0].isupper(), new[-2:], new.count("@"), new.count(".")) == (True, "!\n", 1, 1)
    assert anonymise_text("Please refund", variant=1) != anonymise_text("Please refund")
