"""The reference page of all commands: the help text of each argparse parser, subcommands included."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = 88
"""Width of the help texts, whatever the terminal's: what a page shows without scrolling."""

INTRODUCTION = """\
Every command with its options, as its `--help` prints them. Run the commands from the root of the checkout, with the
environment active (`source .venv/bin/activate`)."""


class _ParserFound(BaseException):
    """Carries the parser out of a command's `main`; no Exception, so that `main` does not handle it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__(parser.prog)
        self.parser = parser


def find_command_modules(root: Path = ROOT) -> list[str]:
    """The modules of all commands: installed scripts, each module of jobs that has a `main`, serving, the chat page."""
    scripts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    jobs = [
        f"jobs.{path.stem}"
        for path in sorted((root / "jobs").glob("[!_]*.py"))
        if re.search(r"^def main\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    return [*(target.partition(":")[0] for target in scripts.values()), *jobs, "serve_apps.deploy", "ui.__main__"]


def build_parser(main: Callable[[list[str] | None], int]) -> argparse.ArgumentParser:
    """The parser that a command's `main` builds. `main` is stopped when it starts to parse."""

    def stop(parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        raise _ParserFound(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", stop):
        try:
            main([])
        except _ParserFound as found:
            return found.parser
    raise LookupError(f"{main.__module__}.main parses no arguments with argparse")


def subcommands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of a parser's subcommands, in their order and without aliases."""
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return list(dict.fromkeys(child for action in actions for child in action.choices.values()))


def walk_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser, then those of all its subcommands."""
    yield parser
    for child in subcommands(parser):
        yield from walk_parsers(child)


def render_commands_page(modules: list[str] | None = None) -> str:
    """The Markdown page of all commands."""
    parts = ["# Commands", INTRODUCTION]
    with _columns(COLUMNS):
        for module in find_command_modules() if modules is None else modules:
            program = build_parser(importlib.import_module(module).main)
            for parser in walk_parsers(program):
                parts += _render_help(parser, level=2 if parser is program else 3)
    return "\n\n".join(parts) + "\n"


def anchor(program: str) -> str:
    """The anchor of a command: `tuneyard-data-validate` or `jobs.finetune`."""
    return program.removeprefix("python -m ").replace(" ", "-")


def _render_help(parser: argparse.ArgumentParser, level: int) -> list[str]:
    lines = [line.rstrip() for line in parser.format_help().strip().splitlines()]
    fence = "````" if any(line.startswith("```") for line in lines) else "```"
    label = parser.prog.removeprefix("python -m ").removeprefix("tuneyard ")
    heading = f'{"#" * level} `{parser.prog}` {{ #{anchor(parser.prog)} data-toc-label="{label}" }}'
    return [heading, "\n".join([f"{fence}text", *lines, fence])]


@contextmanager
def _columns(number: int) -> Iterator[None]:
    """Makes argparse format for this many columns, without colours."""
    with mock.patch.dict(os.environ, {"COLUMNS": str(number), "NO_COLOR": "1"}):
        yield
