"""The supported formats of dataset rows: their keys, their detection and their conversion to OpenAI chat rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from tuneyard.chats.converters import (
    FormatProblem,
    from_alpaca,
    from_openai,
    from_prompt_completion,
    from_sharegpt,
    from_squad,
)
from tuneyard.core.wording import short_repr

DatasetFormat = Literal["openai", "sharegpt", "alpaca", "prompt_completion", "squad"]

FORMATS: dict[DatasetFormat, tuple[str, tuple[str, ...]]] = {
    "openai": ("OpenAI chat", ("messages",)),
    "sharegpt": ("ShareGPT", ("conversations",)),
    "squad": ("SQuAD", ("context", "question", "answers")),
    "alpaca": ("Alpaca", ("instruction", "output")),
    "prompt_completion": ("prompt and completion", ("prompt", "completion")),
}
"""Each format's name in messages and the keys that its rows have. Detection tries the formats in this order."""

_CONVERTERS: dict[DatasetFormat, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "openai": from_openai,
    "sharegpt": from_sharegpt,
    "alpaca": from_alpaca,
    "prompt_completion": from_prompt_completion,
    "squad": from_squad,
}


def detect_format(row: Any) -> DatasetFormat | None:
    """The first format of which the row has all keys; None if there is none."""
    if not isinstance(row, dict):
        return None
    return next((name for name, (_, keys) in FORMATS.items() if all(key in row for key in keys)), None)


def to_openai_row(row: Any, name: DatasetFormat) -> dict[str, Any]:
    """The row of the format `name` as `messages`, `tools` and `metadata`; the latter holds the row's unknown keys.

    Raises FormatProblem if the row does not have the format.
    """
    title, keys = FORMATS[name]
    if not isinstance(row, dict) or not all(key in row for key in keys):
        expected = " and ".join(f"`{key}`" for key in keys)
        raise FormatProblem(f"expected an object with {expected} ({title}), found {short_repr(row)}")
    return _CONVERTERS[name](row)
