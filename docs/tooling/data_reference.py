"""The reference page of data: the problems of rows, the formats, and the columns that are known as metadata."""

from __future__ import annotations

from tuneyard.chats.row_formats.column_names import HARMLESS_COLUMNS
from tuneyard.chats.row_formats.names import FORMATS, QUESTION_ANSWER_COLUMNS
from tuneyard.chats.row_problems import PROBLEMS, ProblemKind

INTRODUCTION = """\
# Data problems and formats

What `tuneyard data validate` and a run's preflight report about rows, by name; the formats that are recognised; and the
columns that are known as metadata.

## Problems

An **error** stops a run before it starts. A **warning** or a **note** is counted and named; with `--strict`, `validate`
fails for warnings too. A **dropped** row is left out and counted in the manifest.
[`data.problems`](finetune-config.md#data.problems) changes what happens, by name:

```yaml
data:
  problems: {duplicate: drop, special_token_text: ignore, missing_argument: error}
```
"""


def render_data_page() -> str:
    """The page, in Markdown."""
    return "\n".join(
        [
            INTRODUCTION,
            *(_problem(kind) for kind in PROBLEMS.values()),
            "## Formats\n",
            "A row has the first format whose columns it has.",
            "[`data.format`](finetune-config.md#data.format) overrides this.\n",
            "| Format | Columns | Becomes |",
            "|---|---|---|",
            *(
                f"| {known.title} (`{name}`) | {_columns(name, known.keys)} | {known.becomes} |"
                for name, known in FORMATS.items()
            ),
            "",
            "Any of them may have `system` (or `system_prompt`), `tools` (or `functions`), `reasoning` (or `thinking`,",
            "`reasoning_content`) and `weight` (or `train`).\n",
            "## Columns that are metadata\n",
            "They are kept with the row and never rendered. Any other column that is not used is reported as",
            "[`unknown_column`](#unknown_column) or [`meaningful_column`](#meaningful_column).\n",
            ", ".join(f"`{name}`" for name in sorted(HARMLESS_COLUMNS)) + "\n",
        ]
    )


def _problem(kind: ProblemKind) -> str:
    choices = ", ".join(f"`{choice}`" for choice in kind.choices) or "always an error"
    return (
        f"### `{kind.name}` {{ #{kind.name} }}\n\ndefault `{kind.severity}` · {choices}\n{{ .field-facts }}\n\n"
        f"{kind.meaning}\n\n**Do:** {kind.fix}\n"
    )


def _columns(name: str, keys: tuple[str, ...]) -> str:
    if name == "question_answer":
        return "; ".join(f"`{question}`, `{answer}`" for question, answer in QUESTION_ANSWER_COLUMNS)
    return ", ".join(f"`{key}`" for key in keys)
