"""The time of every `--help`, less that of a bare `python -c pass`."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from tests.test_help_is_light import ROOT, programs
from tuneyard.cli.main import build_parser

ROUNDS = 5
LIMIT_S = 0.3


def run() -> dict[str, Any]:
    """Medians of ROUNDS in turn, in seconds: the bare interpreter's time, and what each `--help` takes longer."""
    commands = {" ".join(words): ["-m", *words, "--help"] for words in _commands()}
    seconds: dict[str, list[float]] = {"bare": [], **{name: [] for name in commands}}
    for _ in range(ROUNDS):
        seconds["bare"].append(_seconds(["-c", "pass"]))
        for name, arguments in commands.items():
            seconds[name].append(_seconds(arguments))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    bare_s = medians.pop("bare")
    over_bare_s = {name: median - bare_s for name, median in medians.items()}
    return {
        "bare_s": bare_s,
        "limit_s": LIMIT_S,
        "largest_over_bare_s": max(over_bare_s.values()),
        "over_bare_s": over_bare_s,
    }


def _commands() -> Iterator[tuple[str, ...]]:
    """Every program, and every subcommand of `tuneyard`, as the words after `python -m`."""
    for module in programs():
        yield (module,)
    for group, parser in _subcommands(build_parser()).items():
        yield ("tuneyard.cli", group)
        for name in _subcommands(parser):
            yield ("tuneyard.cli", group, name)


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
