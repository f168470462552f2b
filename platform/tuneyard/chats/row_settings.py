"""RowSettings: the config fields that decide how dataset rows become chats, and what happens to their problems."""

from __future__ import annotations

import string
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from tuneyard.chats.row_formats.names import DatasetFormat
from tuneyard.chats.row_problems import PROBLEMS, Severity
from tuneyard.core.strict_model import StrictConfig

COLUMN_TARGETS = (
    "messages", "prompt", "completion", "system", "reasoning", "tools", "weight", "chosen", "rejected", "label",
)  # fmt: skip
"""What `data.columns` can name: the columns of the format that a mapped row gets."""


class RowSettings(StrictConfig):
    """How rows become chats."""

    format: DatasetFormat | None = None
    """Format of the rows. null: detected from the columns of the first row."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Columns of the file for the parts of a chat, for example `{prompt: question, completion: answer, system:
    context}`. A value with braces is a template: `"Context: {context}\\n\\n{question}"`; write `{{` for a brace. Keys:
    `messages`, `prompt`, `completion`, `system`, `reasoning`, `tools`, `weight`, `chosen`, `rejected`, `label`."""

    text_markup: Literal["error", "convert"] = "error"
    """What happens to reasoning and calls that assistant messages spell as text: `<think>…</think>`,
    `<tool_call>…</tool_call>`, `<|channel|>…`. `convert` makes them reasoning and calls. `error` refuses the row."""

    preference: Literal["chosen", "rejected", "pairs"] | None = None
    """What of a preference dataset is trained on. `chosen` or `rejected`: this half, as chats. `pairs`: both answers,
    with `training.objective: dpo`. null: `pairs` with `training.objective: dpo`; otherwise rows with both answers are
    refused."""

    unanswerable_answer: str | None = None
    """Answer for questions without one, as in SQuAD v2. null: such rows are the problem `unanswerable`."""

    problems: dict[str, Severity] = Field(default_factory=dict)
    """What happens to problems of rows, by name, for example `{duplicate: drop, special_token_text: ignore}`: `error`,
    `warning`, `note`, `ignore` or `drop`. The reference page "Data problems and formats" lists names and defaults."""

    def severity_of(self, kind: str) -> Severity:
        """What happens to a problem of this kind."""
        return self.problems.get(kind) or PROBLEMS[kind].severity

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for target, source in columns.items():
            if target not in COLUMN_TARGETS:
                raise ValueError(f"{target!r} is no part of a chat. Known: {', '.join(COLUMN_TARGETS)}")
            if not source:
                raise ValueError(f"{target} names no column")
            if "{" in source or "}" in source:
                _check_template(target, source)
        return columns

    @field_validator("problems")
    @classmethod
    def _check_problems(cls, problems: dict[str, Severity]) -> dict[str, Severity]:
        for name, severity in problems.items():
            kind = PROBLEMS.get(name)
            if kind is None:
                raise ValueError(f"there is no problem {name!r}. Known: {', '.join(PROBLEMS)}")
            if severity not in kind.choices:
                choices = ", ".join(kind.choices) or "none; it is always an error"
                raise ValueError(f"{name} cannot be {severity!r}. Choices: {choices}")
        return problems

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        names = set(self.columns)
        if names and not any(needed <= names for needed in ({"messages"}, {"prompt", "completion"}, {"chosen"})):
            raise ValueError(
                f"data.columns maps {', '.join(sorted(names))}. It needs `prompt` and `completion`, or `messages`, or "
                "`chosen` and `rejected`"
            )
        return self


class DataSection(StrictConfig):
    """A config that has only the section `data`: what a command without a config can set."""

    data: RowSettings = RowSettings()


def _check_template(target: str, template: str) -> None:
    """Raises ValueError unless the template has only text and `{column}`."""
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template)]
    except ValueError as e:
        raise ValueError(f"the template of {target} is not valid: {e}") from e
    for name, spec, conversion in fields:
        if name is not None and (not name or spec or conversion or any(mark in name for mark in "{}")):
            raise ValueError(f"the template of {target} may hold only {{column}}, found {{{name}}} in {template!r}")
