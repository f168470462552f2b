"""The fenced code blocks of the documentation, so that tests can run every command that a page shows.

A comment on the line before a fence tells the tests about the block:

    <!-- test: skip needs a GPU -->     no test runs it, for this reason
    <!-- test: train-by-hand -->        the test that looks for this name runs it

Page writers: `runnable_blocks(…)` gives what a test must run; `CommandBlock.place` is the name for pytest's `ids`.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"

FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})(?P<info>.*)$")
DIRECTIVE = re.compile(r"^\s*<!--\s*test:(?P<text>.*?)-->\s*$")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class PageError(Exception):
    """A page whose fences or test comments cannot be understood; the message begins with page and line."""


@dataclass(frozen=True)
class CommandBlock:
    """One fenced code block."""

    page: str
    """The page's path below docs/, such as `getting-started.md`."""

    line: int
    """Line of the opening fence, counted from 1."""

    language: str
    """First word after the fence, in lower case, such as `sh`; empty without one."""

    text: str
    """The code, without the indentation of the fence; ends with a newline unless it is empty."""

    name: str | None = None
    """From `<!-- test: NAME -->`."""

    skip: str | None = None
    """The reason from `<!-- test: skip REASON -->`."""

    @property
    def place(self) -> str:
        """Page and line, as editors take them: `getting-started.md:12`."""
        return f"{self.page}:{self.line}"


def command_blocks(text: str, page: str) -> list[CommandBlock]:
    """All fenced code blocks of a page's text, in their order.

    Raises PageError for a fence without an end, a test comment without a block, and a malformed test comment.
    """
    lines = text.splitlines()
    blocks: list[CommandBlock] = []
    directive: tuple[int, str] | None = None
    position = 0
    while position < len(lines):
        number = position + 1
        opening = FENCE.match(lines[position])
        if opening is not None:
            end = _closing_line(lines, position, opening["marks"], page)
            name, skip = (None, None) if directive is None else _read_directive(directive[1], f"{page}:{directive[0]}")
            code = _without_indent(lines[position + 1 : end], opening["indent"])
            blocks.append(CommandBlock(page, number, _language(opening["info"]), code, name, skip))
            directive, position = None, end + 1
            continue
        if directive is not None:
            raise PageError(f"{page}:{directive[0]}: the test comment must be on the line before a code block")
        comment = DIRECTIVE.match(lines[position])
        directive = (number, comment["text"].strip()) if comment is not None else None
        position += 1
    if directive is not None:
        raise PageError(f"{page}:{directive[0]}: the test comment must be on the line before a code block")
    return blocks


def documentation_blocks(docs: Path = DOCS) -> list[CommandBlock]:
    """The code blocks of all pages in docs/, generated pages left out. Raises PageError."""
    return [block for page in sorted(docs.glob("*.md")) for block in command_blocks(page.read_text("utf-8"), page.name)]


def runnable_blocks(page: str, languages: Collection[str] = ("sh",), docs: Path = DOCS) -> list[CommandBlock]:
    """The blocks of one page in these languages that are not skipped. Raises PageError."""
    blocks = command_blocks((docs / page).read_text("utf-8"), page)
    return [block for block in blocks if block.language in languages and block.skip is None]


def named_block(page: str, name: str, docs: Path = DOCS) -> CommandBlock:
    """The one block of a page with this name. Raises PageError when there is none, or more than one."""
    blocks = [block for block in command_blocks((docs / page).read_text("utf-8"), page) if block.name == name]
    if len(blocks) != 1:
        raise PageError(f"{page}: {len(blocks)} code blocks have the comment <!-- test: {name} -->, expected 1")
    return blocks[0]


def commands(block: CommandBlock) -> Iterator[str]:
    """The commands of a shell block, one at a time: continued lines joined, comments and blank lines left out.

    A here-document or a quoted text over several lines stays one command only if each of its lines ends in a backslash;
    give such a block to a shell as a whole.
    """
    for line in block.text.replace("\\\n", " ").splitlines():
        command = line.strip()
        if command and not command.startswith("#"):
            yield command


def _closing_line(lines: list[str], start: int, marks: str, page: str) -> int:
    """The index of the line that closes the fence opened at `start`."""
    closing = re.compile(rf"^\s*{re.escape(marks[0])}{{{len(marks)},}}\s*$")
    for index in range(start + 1, len(lines)):
        if closing.match(lines[index]):
            return index
    raise PageError(f"{page}:{start + 1}: this code block has no closing {marks}")


def _read_directive(text: str, place: str) -> tuple[str | None, str | None]:
    """Name and reason to skip, one of them None."""
    word, _, reason = text.partition(" ")
    if word == "skip":
        if not reason.strip():
            raise PageError(f"{place}: give a reason: <!-- test: skip REASON -->")
        return None, reason.strip()
    if not NAME.fullmatch(text):
        raise PageError(
            f"{place}: {text!r} is not a test's name: use lower-case letters, digits and hyphens, or `skip REASON`"
        )
    return text, None


def _language(info: str) -> str:
    """The language of `sh`, `sh title="x"` and `{ .sh .annotate }`."""
    match = re.match(r"\s*\{?\s*\.?([\w+#-]+)", info)
    return match[1].lower() if match is not None else ""


def _without_indent(lines: list[str], indent: str) -> str:
    code = "\n".join(line.removeprefix(indent) if line.strip() else "" for line in lines)
    return textwrap.dedent(code) + "\n" if indent and code else code + "\n" if code else ""
