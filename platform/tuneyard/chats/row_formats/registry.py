"""Detects the format of a row and converts it to a chat."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tuneyard.chats.row_formats import (
    conversations,
    function_texts,
    instructions,
    message_trees,
    preferences,
    shared_columns,
)
from tuneyard.chats.row_formats.chat_row import ChatRow, FormatProblem
from tuneyard.chats.row_formats.names import FORMATS, QUESTION_ANSWER_COLUMNS, DatasetFormat
from tuneyard.core.wording import short_repr

if TYPE_CHECKING:
    from tuneyard.chats.row_settings import RowSettings

Converter = Callable[[dict[str, Any], "RowSettings"], ChatRow]

_CONVERTERS: dict[DatasetFormat, Converter] = {
    "openai": lambda row, _: conversations.from_openai(row),
    "sharegpt": lambda row, _: conversations.from_sharegpt(row),
    "conversation": lambda row, _: conversations.from_conversation(row),
    "ultrachat": lambda row, _: conversations.from_ultrachat(row),
    "alpaca": lambda row, _: instructions.from_alpaca(row),
    "dolly": lambda row, _: instructions.from_dolly(row),
    "orca": lambda row, _: instructions.from_columns("question", "response")(row),
    "question_answer": lambda row, _: instructions.from_question_answer(row),
    "openthoughts": lambda row, _: instructions.from_openthoughts(row),
    "prompt_completion": lambda row, _: instructions.from_prompt_completion(row),
    "openai_evals": lambda row, _: instructions.from_openai_evals(row),
    "nemotron": lambda row, _: instructions.from_nemotron(row),
    "squad": instructions.from_squad,
    "xlam": lambda row, _: function_texts.from_xlam(row),
    "glaive": lambda row, _: function_texts.from_glaive(row),
    "toolace": lambda row, _: function_texts.from_toolace(row),
    "oasst": lambda row, _: message_trees.from_oasst(row),
    "preference": preferences.from_preference,
    "openai_preference": preferences.from_openai_preference,
    "kto": preferences.from_kto,
    "ultrafeedback": preferences.from_ultrafeedback,
}

_COLUMNS = {name: frozenset(known.keys) for name, known in FORMATS.items()}

_KNOWN_DATASETS: tuple[tuple[str, frozenset[str]], ...] = (
    ("Hermes function calling", frozenset({"conversations", "tools", "category"})),
    ("OpenThoughts", frozenset({"conversations", "difficulty", "domain"})),
    ("Mixture-of-Thoughts", frozenset({"messages", "num_tokens", "source"})),
    ("Nemotron post-training", frozenset({"messages", "reasoning", "generator"})),
    ("UltraFeedback binarized", frozenset({"chosen", "rejected", "score_chosen"})),
    ("UltraChat", frozenset({"messages", "prompt", "prompt_id"})),
    ("WildChat", frozenset({"conversation", "conversation_hash"})),
    ("LMSYS", frozenset({"conversation", "conversation_id"})),
)
"""Datasets that have a general format, by the columns that they have."""


def detect_format(row: Any) -> DatasetFormat | None:
    """The first format that recognises the row; None if there is none."""
    if not isinstance(row, dict):
        return None
    return next((name for name in FORMATS if _recognises(name, row)), None)


def _recognises(name: DatasetFormat, row: dict[str, Any]) -> bool:
    match name:
        case "kto":
            has_answer = {"prompt", "completion"} <= row.keys() or "messages" in row
            return has_answer and preferences.as_label(row.get("label")) is not None
        case "oasst":
            is_tree = "message_tree_id" in row and isinstance(row.get("prompt"), dict | str)
            return is_tree or {"message_tree_id", "parent_id", "text", "role"} <= row.keys()
        case "toolace":
            system = row.get("system")
            return "conversations" in row and isinstance(system, str) and function_texts.TOOLACE_MARK in system
        case "question_answer":
            return any(question in row and answer in row for question, answer in QUESTION_ANSWER_COLUMNS)
        case "nemotron":
            return "output" in row and "instruction" not in row and isinstance(row.get("input"), list)
        case _:
            return row.keys() >= _COLUMNS[name]


def describe_format(name: DatasetFormat, row: Any) -> str:
    """The format's name in messages, with the name of the dataset that has these columns, if it is known."""
    title = FORMATS[name].title
    if not isinstance(row, dict):
        return title
    if name == "question_answer" and "#### " in str(row.get("answer")):
        return "gsm8k"
    known = next((dataset for dataset, columns in _KNOWN_DATASETS if columns <= row.keys()), None)
    return f"{known}, {title}" if known else title


def to_chat_row(row: Any, name: DatasetFormat, settings: RowSettings) -> ChatRow:
    """The row of the format `name` as a chat; every column is used, kept as metadata or named in a finding.

    Raises FormatProblem if the row cannot become a chat.
    """
    if not isinstance(row, dict) or not _has_columns(name, row):
        keys = " and ".join(f"`{key}`" for key in FORMATS[name].keys)
        raise FormatProblem(f"expected an object with {keys} ({FORMATS[name].title}), found {short_repr(row)}")
    return shared_columns.complete(row, _CONVERTERS[name](row, settings))


def _has_columns(name: DatasetFormat, row: dict[str, Any]) -> bool:
    """Whether the converter can read the columns that it needs."""
    if row.keys() >= _COLUMNS[name]:
        return True
    # Formats with several sets of columns; the converters of the last two check theirs.
    return (name == "kto" and {"label", "messages"} <= row.keys()) or name in ("question_answer", "oasst")
