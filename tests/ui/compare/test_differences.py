from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.compare.differences import MAX_WORDS, find_differences, split_words

words = st.lists(st.sampled_from(["the", "press", "hold", "ten", "seconds", ".", ",", "light"]), max_size=60)


@given(words, words)
def test_without_the_marked_words_both_texts_are_equal(left: list[str], right: list[str]) -> None:
    found = find_differences(left, right)
    kept_left = [word for i, word in enumerate(left) if i not in found.left]
    kept_right = [word for i, word in enumerate(right) if i not in found.right]
    assert kept_left == kept_right
    assert found.share is not None
    equal_words = found.share * (len(left) + len(right))
    assert equal_words == pytest.approx(len(kept_left) + len(kept_right)) or not (left or right)


@given(words)
def test_equal_texts_have_no_differences(text: list[str]) -> None:
    found = find_differences(text, list(text))
    assert (found.left, found.right, found.share) == (frozenset(), frozenset(), 1.0)
    assert not found.are_marked


@given(st.text(max_size=200))
def test_words_leave_out_nothing_but_space(text: str) -> None:
    assert "".join(split_words(text)) == "".join(text.split())


def test_words_of_several_scripts() -> None:
    assert split_words("Don't press E47, wait 10 s.") == ["Don't", "press", "E47", ",", "wait", "10", "s", "."]
    assert split_words("保修两年。") == ["保", "修", "两", "年", "。"]
    assert split_words("a_b") == ["a", "_", "b"]


def test_the_words_that_differ_are_marked() -> None:
    left, right = (
        split_words("Hold it for ten seconds, then wait."),
        split_words("Hold it for five seconds, then wait."),
    )
    found = find_differences(left, right)
    assert [left[i] for i in found.left] == ["ten"]
    assert [right[i] for i in found.right] == ["five"]
    assert found.are_marked


def test_a_lone_equal_word_between_differences_is_marked_too() -> None:
    left = split_words("Open the red menu now and go on as before")
    right = split_words("Open that old menu slowly and go on as before")
    found = find_differences(left, right)
    assert [left[i] for i in sorted(found.left)] == ["the", "red", "menu", "now"]


def test_texts_with_nothing_in_common_are_not_marked() -> None:
    assert not find_differences(split_words("Yes, of course."), split_words("I cannot say")).are_marked


def test_long_texts_are_not_compared_and_others_in_time() -> None:
    long = ["word"] * (MAX_WORDS + 1)
    assert find_differences(long, long).share is None
    vocabulary = [f"w{i % 97}" for i in range(MAX_WORDS)]
    started = time.monotonic()
    find_differences(vocabulary, vocabulary[::-1])
    assert time.monotonic() - started < 10
