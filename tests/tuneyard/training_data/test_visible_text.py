"""The visible form: what looks different stays different, in every script; case, spaces, punctuation do not count."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.training_data.visible_text import _folded_form, visible_form

DIFFERENT = [
    ("दिन", "दान"), ("ที่", "ที"), ("か", "が"), ("café", "cafe"), ("שָׁלוֹם", "שלום"),
    ("نمی‌خواهم", "نمیخواهم"), ("Maße", "Masse"), ("C++", "C"), ("C#", "C"), ("-5", "5"),
    ("−5", "5"), ("1.5", "15"), ("1,5", "15"), ("3：5", "35"), ("5!", "5"), ("$5", "5"),
    ("50%", "50"), ("x²", "x2"), ("a.b", "ab"), ("foo()", "foo"), ("e-mail", "email"),
    (".", "?"), ("👍", "👎"), ("👍🏻", "👍🏿"), ("👨‍👩‍👧", "👨👩👧"), ("🇩🇪", "🇫🇷"), ("こんにちは", "こんばんは"),
    ("你好", "您好"), ("foo bar", "foobar"),
]  # fmt: skip
EQUAL = [
    ("Q1!", "q1"), ("Hello, world.", "hello  world"), ("Really?", "really"),
    ("Quoi ?", "quoi?"), ('"Yes."', '"yes"'), ("“Don’t”", '"Don\'t"'), ("−5", "-5"),
    ("１２ Ａｂｃ", "12 abc"), ("你好，世界！", "你好 世界"), ("สวัสดี ครับ", "สวัสดีครับ"),
    ("راه، بك؟", "راه بك"), ("राम ।", "राम"), ("안녕, 하세요", "안녕 하세요"), ("¿Qué?", "qué"),
    ("e\u0301", "é"), ("ﻻ", "لا"), ("a\u200bb", "ab"), ("soft\u00adware", "software"),
    ("❤️", "❤"), ("\ufeffx", "x"), ("ﬁne", "fine"),
]  # fmt: skip

SCRIPTS = [
    (0x0061, 0x007A), (0x00DF, 0x00F6), (0x0391, 0x03A1), (0x0430, 0x044F), (0x05D0, 0x05EA), (0x0621, 0x063A),
    (0x0905, 0x0939), (0x093E, 0x094C), (0x0E01, 0x0E30), (0x0E34, 0x0E39), (0x1000, 0x1020), (0x3042, 0x3093),
    (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0x1F600, 0x1F640), (0x2200, 0x22FF),
]  # fmt: skip
"""First and last code point of letters, marks, emoji and signs that all look different."""


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_what_people_see_differently_is_different(left: str, right: str) -> None:
    assert visible_form(left) != visible_form(right)
    assert visible_form(f"What is {left}?") != visible_form(f"What is {right}?")


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_case_spaces_and_punctuation_do_not_count(left: str, right: str) -> None:
    assert visible_form(left) == visible_form(right)


@given(data=st.data(), before=st.text(max_size=5), after=st.text(max_size=5))
def test_one_other_character_of_a_script_makes_another_text(data: st.DataObject, before: str, after: str) -> None:
    first, last = data.draw(st.sampled_from(SCRIPTS))
    left, right = (data.draw(st.integers(first, last).map(chr)) for _ in range(2))
    forms = {unicodedata.normalize("NFKC", (before + c + after).lower()) for c in (left, right)}
    if len(forms) == 2:
        assert visible_form(before + left + after) != visible_form(before + right + after)


@given(text=st.text())
def test_the_form_of_a_form_is_itself_for_letters_and_no_text_vanishes(text: str) -> None:
    letters = "".join(c for c in text if unicodedata.category(c)[0] in "LN")
    assert visible_form(letters) == visible_form(letters.lower()) or "İ" in letters
    has_letter = any(unicodedata.category(c)[0] in "LNS" for c in text)
    assert bool(visible_form(text)) >= has_letter


@pytest.mark.parametrize("piece", ["!", "?!", ".", ". ", '!"', "5!", "-", "。", " 。", "'", "(5"])
def test_long_runs_of_punctuation_take_linear_time(piece: str) -> None:
    # With quadratic time, this would take minutes and end at the test's time limit.
    assert len(visible_form(piece * 300_000 + "x")) <= len(piece) * 300_000 + 1


WESTERN = "aZ0 9.,;:!?-'\"()äÖßéñ¡¿«»\xad\xa0²½×“”’„‘–—…·°"


@given(st.text(st.sampled_from(WESTERN) | st.characters(max_codepoint=0x24F)))
def test_the_short_way_for_western_texts_gives_what_the_long_one_gives(text: str) -> None:
    assert visible_form(text) == _folded_form(text)
