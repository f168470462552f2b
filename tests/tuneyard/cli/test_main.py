"""Every command of `tuneyard` explains itself in its help."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from tuneyard.cli.main import build_parser, main


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, (*words, name))


@pytest.mark.parametrize("words", list(commands(build_parser())), ids=" ".join)
def test_help_says_what_a_command_does_with_examples_and_short_lines(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as caught:
        main([*words, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(" ".join(("usage: tuneyard", *words)))
    assert "\n\noptions:\n" in text
    if words[-1:] != ("list",):
        assert f"\n  tuneyard {' '.join(words)}".rstrip() in text
    assert max(map(len, text.splitlines())) <= 120
