from __future__ import annotations

import argparse
import enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from docs.tooling.command_reference import build_parser, find_command_modules, render_commands_page, walk_parsers
from docs.tooling.config_reference import ConfigSection, anchor, render_config_page, walk_sections
from docs.tooling.field_types import describe_default, describe_type
from docs.tooling.reference import REFERENCE_PAGES, write_reference
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.serve import ServeConfig

StorageLocation = Annotated[str, BeforeValidator(str)]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    """What is inside. And more."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    size_gib: float | None = Field(default=None, gt=0)
    """Memory; null
    asks for none."""


class Outer(BaseModel):
    """All fields."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str = Field(pattern="^[a-z]+$")
    port: int = Field(default=8000, ge=1, le=65535)
    share: float = Field(default=2e-4, ge=0, lt=1)
    timeout_s: float = 5.0
    threads: int | None = Field(default=1, ge=1)
    kind: Literal["a", "b", "c"] | None = None
    colour: Colour = Colour.RED
    place: StorageLocation = Field(default_factory=lambda: "/home")
    shares: dict[str, float] = Field(default_factory=dict)
    options: dict[str, Any] | None = None
    script: tuple[tuple[int, ...], ...] = ()
    is_on: bool = False
    inner: Inner = Inner()
    many: tuple[Inner, ...]
    maybe: Inner | None = None
    """null: nothing inside."""


@pytest.mark.parametrize(
    ("name", "words", "default"),
    [
        ("name", "text, matching `^[a-z]+$`", "required"),
        ("port", "whole number, 1 to 65535", "default `8000`"),
        ("share", "number, at least 0, less than 1", "default `0.0002`"),
        ("timeout_s", "number of seconds", "default `5.0`"),
        ("threads", "whole number or null, at least 1", "default `1`"),
        ("kind", "`a`, `b`, `c` or null", "default `null`"),
        ("colour", "`red` or `blue`", "default `red`"),
        ("place", "path or URI", "default set by the environment"),
        ("shares", "mapping of names to numbers", "default `{}`"),
        ("options", "mapping or null", "default `null`"),
        ("script", "list of lists of whole numbers", "default `[]`"),
        ("is_on", "true or false", "default `false`"),
        ("many", "list of sections", "required"),
        ("maybe", "section or null", "default `null`"),
    ],
)
def test_a_field_in_plain_words(name: str, words: str, default: str) -> None:
    assert describe_type(Outer, name) == words
    assert describe_default(Outer.model_fields[name]) == default


def test_a_section_in_plain_words() -> None:
    assert describe_type(Inner, "size_gib") == "number of GiB or null, greater than 0"


def test_the_page_of_a_config() -> None:
    page = render_config_page("Title", "Introduction.", Outer)
    assert page.startswith("# Title\n\nIntroduction.\n\nAll fields.\n\n| Section | What it sets |\n")
    assert "| [`many.N`](#many) | What is inside |" in page
    assert '### `many.N.size_gib` { #many.size_gib data-toc-label="size_gib" }\n\nnumber of GiB or null' in page
    assert "Memory; null asks for none." in page
    maybe = page[page.index("## `maybe`") :]
    assert maybe.startswith(
        '## `maybe` { #maybe data-toc-label="maybe" }\n\nsection or null · default `null`\n{ .field-facts }\n\n'
        "null: nothing inside.\n\nWhat is inside. And more.\n"
    )
    inner = page[page.index("## `inner`") :]
    assert inner.startswith('## `inner` { #inner data-toc-label="inner" }\n\nWhat is inside. And more.\n')


@pytest.mark.parametrize("model", [FinetuneConfig, ServeConfig])
def test_every_field_of_the_real_configs_has_its_place(model: type[BaseModel]) -> None:
    page = render_config_page("Title", "Introduction.", model)
    for section in walk_sections(ConfigSection((), model)):
        for name, _ in section.fields():
            dotted = ".".join((*section.path, name))
            assert f"### `{dotted}` {{ #{anchor(dotted)} " in page
    assert "Annotated" not in page
    assert "typing." not in page


def test_the_librarys_own_types_have_words() -> None:
    sections = walk_sections(ConfigSection((), FinetuneConfig))
    words = {describe_type(section.model, name) for section in sections for name, _ in section.fields()}
    assert {"path or URI", "path or null", "path, URI or `hf:` name"} <= words, (
        "a type of the library was renamed: mend ALIASES in docs/tooling/field_types.py"
    )


def sample_main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sample", description="A sample.")
    commands = parser.add_subparsers(required=True)
    data = commands.add_parser("data", help="about data").add_subparsers()
    data.add_parser("check", help="check it").add_argument("--count", type=int, help="how many")
    parser.parse_args(argv)
    raise AssertionError("the command ran")


def test_the_parser_of_a_command_is_found_without_running_it() -> None:
    programs = [parser.prog for parser in walk_parsers(build_parser(sample_main))]
    assert programs == ["sample", "sample data", "sample data check"]


def test_a_command_without_a_parser_is_an_error() -> None:
    with pytest.raises(LookupError, match="parses no arguments"):
        build_parser(lambda _: 0)


def test_all_commands_are_found() -> None:
    modules = find_command_modules()
    assert {"jobs.finetune", "jobs.evaluate", "serve_apps.deploy", "ui.__main__"} <= set(modules)


def test_the_page_of_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    page = render_commands_page()
    assert '### `tuneyard data validate` { #tuneyard-data-validate data-toc-label="data validate" }' in page
    assert '## `python -m jobs.finetune` { #jobs.finetune data-toc-label="jobs.finetune" }' in page
    assert "usage: python -m serve_apps.deploy" in page
    assert "\x1b" not in page
    monkeypatch.setenv("COLUMNS", "200")
    assert render_commands_page() == page


def test_reference_pages_are_written_once(tmp_path: Path) -> None:
    write_reference(tmp_path)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(times) == set(REFERENCE_PAGES)
    write_reference(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
