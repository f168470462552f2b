"""Template: a text with variables such as `{{ item.answer }}` and `{{ sample.output_tools[0].function.name }}`.

Source: OpenAI, guide "Graders", section "Templating". A variable names its namespace, then keys by `.key` or `['key']`,
and elements of arrays by `[0]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneyard.core.errors import EvaluationError

NAMESPACES = ("item", "sample")
"""What variables begin with: the row of the data source, and the model's answer to it."""

_OPENING = re.compile(r"\{\{\s*(?=[^\W\d])")
"""Two braces before a name. Braces before anything else, as in JSON, are text."""

_STEP = re.compile(r"\.([\w-]+)|\[(\d{1,9})\]|\[\s*'([^']*)'\s*\]|\[\s*\"([^\"]*)\"\s*\]")
_NAME = re.compile(r"[^\W\d]\w*")

_MAX_SHOWN = 60
"""Characters of a template or of a list of names that a message quotes."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A path into a namespace: keys of objects, and positions in arrays."""

    namespace: str
    path: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> Variable:
        """The variable in `namespace.key[0]`. Raises ValueError, as a phrase, for any other text."""
        name = _NAME.match(text)
        path: list[str | int] = []
        end = name.end() if name else 0
        while (step := _STEP.match(text, end)) is not None:
            index = step.group(2)
            path.append(int(index) if index else next(key for key in step.group(1, 3, 4) if key is not None))
            end = step.end()
        if name is None or end < len(text):
            raise ValueError(f"{_shorten(text)!r} is no variable; write one as item.answer or sample.output_tools[0]")
        if name.group() not in NAMESPACES:
            raise ValueError(f"the variable {_shorten(text)!r} must begin with {' or '.join(NAMESPACES)}")
        return cls(name.group(), tuple(path))

    def __str__(self) -> str:
        return self.namespace + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in self.path)

    def resolve(self, values: Mapping[str, Any]) -> Any:
        """The JSON value that the variable has. Raises EvaluationError if there is none."""
        value: Any = values.get(self.namespace)
        seen = self.namespace
        if value is None:
            raise EvaluationError(f"{{{{ {self} }}}} is not defined: this run has no {self.namespace}.", "variable")
        for step in self.path:
            value = _step_into(value, step, self, seen)
            seen += f"[{step}]" if isinstance(step, int) else f".{step}"
        return value


@dataclass(frozen=True, slots=True)
class Template:
    """Text and variables, in turn."""

    parts: tuple[str | Variable, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """The template in a text. Raises ValueError, as a phrase, if two braces before a name hold no variable."""
        parts: list[str | Variable] = []
        position = 0
        while (opening := _OPENING.search(text, position)) is not None:
            end = text.find("}}", opening.end())
            if end < 0:
                raise ValueError(f"{_shorten(text[opening.start() :])!r} has no closing }}}}")
            parts += [text[position : opening.start()], Variable.parse(text[opening.end() : end].rstrip())]
            position = end + 2
        parts.append(text[position:])
        return cls(tuple(part for part in parts if part != ""))

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables, in order."""
        return tuple(part for part in self.parts if isinstance(part, Variable))

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with the values of its variables: texts as they are, other values as JSON.

        Braces in a value stay text: values are not templates. Raises EvaluationError for a variable without a value.
        """
        return "".join(_as_text(part.resolve(values)) if isinstance(part, Variable) else part for part in self.parts)


def _step_into(value: Any, step: str | int, variable: Variable, seen: str) -> Any:
    if isinstance(value, list):
        index = int(step) if isinstance(step, int) or (step.isascii() and step.isdigit()) else None
        if index is None or index >= len(value):
            raise EvaluationError(
                f"{{{{ {variable} }}}} is not defined: {seen} is an array of {len(value)}.", "variable"
            )
        return value[index]
    if not isinstance(value, Mapping):
        kind = "null" if value is None else {bool: "a boolean", str: "a text"}.get(type(value), "a number")
        raise EvaluationError(f"{{{{ {variable} }}}} is not defined: {seen} is {kind}.", "variable")
    if str(step) not in value:
        keys = _shorten(", ".join(value)) or "nothing"
        raise EvaluationError(f"{{{{ {variable} }}}} is not defined: {seen} has {keys}.", "variable")
    return value[str(step)]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
