"""What a command prints of names that others chose cannot control a terminal."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tuneyard.core.command import run_command
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import MAX_LINES, listed, printable, short_repr


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Where recursion ends, hypothesis' callback of the garbage collector fails too, in whatever test comes next."""
    gc.disable()
    yield
    gc.enable()


def test_an_error_controls_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise CheckpointError("2 problems\n  \x1b[2J\x07.py\n  \u202eyp.live \udcff – naïve ✓")

    assert run_command(fail) == 1
    printed = capsys.readouterr().err
    assert printed == "error: 2 problems\n  \\x1b[2J\\x07.py\n  \\u202eyp.live \\udcff – naïve ✓\n"


def test_text_of_any_language_is_printable() -> None:
    text = "naïve façade – 日本語 ✓ \u00a0!"
    assert printable(text) == text
    assert printable("a\nb") == "a\\nb"
    assert printable("a\nb", keep="\n") == "a\nb"


def test_a_long_list_is_cut() -> None:
    lines = listed([str(number) for number in range(1000)]).splitlines()
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "  … and 900 more"
    assert listed(["a"], total=3) == "  a\n  … and 2 more"


def test_a_value_that_is_nested_too_deeply_has_words() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert short_repr(value) == "a list nested too deeply to be shown"
    while value:  # taken apart: freeing it would nest as deeply
        value = value.pop()  # type: ignore[assignment]
