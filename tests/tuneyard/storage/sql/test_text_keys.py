"""text_key: short and storable for any text, different texts have different keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.storage.sql.text_keys import MAX_LENGTH, text_key

TEXTS = st.text(st.characters(), max_size=20) | st.builds(str.__mul__, st.text(min_size=1), st.integers(1, 300))


@given(TEXTS, TEXTS)
def test_any_text_has_a_key_of_its_own(first: str, second: str) -> None:
    assert (text_key(first) == text_key(second)) == (first == second)
    assert "\0" not in text_key(first)
    assert len(text_key(first)) <= MAX_LENGTH


def test_ids_that_programs_make_stay_as_they_are() -> None:
    assert text_key("resp_0123456789abcdef0123456789abcdef") == "resp_0123456789abcdef0123456789abcdef"
