"""A text ends before the first stop string, however the text is split into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.answers.stop_strings import StopStrings


@given(st.lists(st.text("ab", max_size=4), max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_stop_strings_whatever_the_pieces(pieces: list[str], stops: list[str]) -> None:
    matcher = StopStrings(tuple(stops))
    shown = ""
    for piece in pieces:
        shown += matcher.feed(piece)
        assert not any(stop in shown for stop in stops)
        if matcher.has_stopped:
            break
    shown += matcher.flush()
    text = "".join(pieces)
    complete = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
    assert shown == (text[: min(complete)[1]] if complete else text)
    assert matcher.has_stopped == bool(complete)
