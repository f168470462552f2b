"""Options of commands that measure a loss."""

from __future__ import annotations

import argparse

import pytest

from jobs.checkpoints.loss_options import MAX_LOSS_INCREASE, add_loss_options


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="command")
    add_loss_options(parser, 32)
    return parser.parse_args(arguments)


def test_the_defaults() -> None:
    parsed = parse()
    assert (parsed.rows, parsed.max_loss_increase, parsed.heldout) == (32, MAX_LOSS_INCREASE, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "little", ""])
def test_a_limit_that_no_loss_can_keep_is_refused_before_anything_is_written(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No increase is at most NaN, so the export would be refused after minutes."""
    with pytest.raises(SystemExit):
        parse(f"--max-loss-increase={text}")
    assert f"must be a finite number, found {text!r}" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "many"])
def test_the_number_of_rows_is_a_whole_number_of_at_least_1(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(f"--rows={text}")
    assert "must be a whole number of at least 1" in capsys.readouterr().err
