"""The reference page of a config: every section and field of a pydantic model, found through its annotations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.tooling.field_types import describe_default, describe_type, is_list, is_mapping, nested_model, type_hint

LIST_INDEX, MAP_KEY = "N", "NAME"
"""Stand for the place in a list, as in `models.N.engine`, and for a key of a mapping, as in `platform.bases.NAME`."""


@dataclass(frozen=True)
class ConfigSection:
    """A config model at its place in the config file."""

    path: tuple[str, ...]
    """Names from the top of the file; empty for the top itself. LIST_INDEX comes after the name of a list, and MAP_KEY
    after that of a mapping."""

    model: type[BaseModel]
    parent: type[BaseModel] | None = None
    """The model whose field this section is; None for the top."""

    @property
    def dotted(self) -> str:
        """The name as `--set` takes it: `training.lora`, `models.N.engine`."""
        return ".".join(self.path)

    @property
    def field_name(self) -> str:
        """The name of this section's field in its parent."""
        return next(name for name in reversed(self.path) if name not in (LIST_INDEX, MAP_KEY))

    @property
    def field(self) -> FieldInfo | None:
        """This section's field in its parent; None for the top."""
        return None if self.parent is None else self.parent.model_fields[self.field_name]

    def fields(self) -> Iterator[tuple[str, FieldInfo]]:
        """The fields that hold a value and no section."""
        for name, field in self.model.model_fields.items():
            if nested_model(type_hint(self.model, name)) is None:
                yield name, field

    def children(self) -> Iterator[ConfigSection]:
        """The sections directly inside this one."""
        for name in self.model.model_fields:
            hint = type_hint(self.model, name)
            model = nested_model(hint)
            if model is not None:
                index = (LIST_INDEX,) if is_list(hint) else (MAP_KEY,) if is_mapping(hint) else ()
                yield ConfigSection((*self.path, name, *index), model, self.model)


def anchor(dotted: str) -> str:
    """The anchor of a field or section: its dotted name without the place in a list or mapping."""
    return ".".join(name for name in dotted.split(".") if name not in (LIST_INDEX, MAP_KEY))


def walk_sections(section: ConfigSection) -> Iterator[ConfigSection]:
    """A section, then all sections inside it, in the order of the file."""
    yield section
    for child in section.children():
        yield from walk_sections(child)


def render_config_page(title: str, introduction: str, model: type[BaseModel]) -> str:
    """The Markdown page of a config model."""
    sections = list(walk_sections(ConfigSection((), model)))
    parts = [f"# {title}", introduction, _docstring(model), *_render_overview(sections)]
    for section in sections:
        parts += _render_section(section)
    return "\n\n".join(part for part in parts if part) + "\n"


def _render_overview(sections: list[ConfigSection]) -> list[str]:
    """A table of all sections."""
    rows = [
        f"| [`{section.dotted}`](#{anchor(section.dotted)}) | {_first_sentence(_docstring(section.model))} |"
        for section in sections
        if section.path
    ]
    return ["\n".join(["| Section | What it sets |", "|---|---|", *rows])]


def _render_section(section: ConfigSection) -> list[str]:
    fields = list(section.fields())
    parts = []
    if section.path:
        parts = [_heading(2, section.dotted, section.dotted), *_render_section_field(section)]
        parts += [_docstring(section.model)]
    elif fields:
        parts = ["## Top level", "Fields outside of any section."]
    for name, field in fields:
        dotted = ".".join((*section.path, name))
        parts += [_heading(3, dotted, name), _facts(section.model, name), _reflow(field.description)]
    return parts


def _render_section_field(section: ConfigSection) -> list[str]:
    """The docstring of the field that holds a section, and type and default unless it defaults to the section's own."""
    assert section.parent is not None
    assert section.field is not None
    facts = [] if _is_default_section(section.field) else [_facts(section.parent, section.field_name)]
    return [*facts, _reflow(section.field.description)]


def _is_default_section(field: FieldInfo) -> bool:
    """Whether a field's default is a section, whose own fields list the defaults."""
    return not field.is_required() and isinstance(field.get_default(call_default_factory=True), BaseModel)


def _facts(model: type[BaseModel], name: str) -> str:
    """The line below a heading: type, unit, limits, default."""
    return f"{describe_type(model, name)} · {describe_default(model.model_fields[name])}\n{{ .field-facts }}"


def _heading(level: int, dotted: str, label: str) -> str:
    return f'{"#" * level} `{dotted}` {{ #{anchor(dotted)} data-toc-label="{label}" }}'


def _docstring(model: type[BaseModel]) -> str:
    """The class's own docstring; empty without one."""
    return inspect.cleandoc(model.__dict__.get("__doc__") or "")


def _reflow(text: str | None) -> str:
    """A docstring with the lines of a paragraph joined."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _first_sentence(text: str) -> str:
    sentence = re.split(r"(?<=\.)\s+(?=[A-Z`])|\n", _reflow(text))[0]
    return sentence.rstrip(".").replace("|", "\\|")
