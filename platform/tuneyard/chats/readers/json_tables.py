"""Tables that a JSON file holds as one object: pandas' orientations, columns of lists, and SQuAD's nested form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def table_rows(value: Any, *, may_be_columns: bool) -> list[Any] | None:
    """The rows of an object that is a whole table; None for any other value, which is a row itself.

    `may_be_columns`: whether an object of lists of equal length is a table, as `datasets` writes it with to_dict. A
    line of a JSONL file with such lists is a row.
    """
    if not isinstance(value, dict):
        return None
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list):  # pandas, orient="split"
        if all(isinstance(row, list) and len(row) == len(columns) for row in data):
            return [dict(zip(columns, row, strict=True)) for row in data]
    elif isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        return data  # SQuAD, and pandas with orient="table"
    if value and all(isinstance(cells, dict) for cells in value.values()):
        return _rows_of_mappings(value)
    return _rows_of_lists(value) if may_be_columns else None


def _rows_of_mappings(value: dict[str, dict[str, Any]]) -> list[Any] | None:
    """The rows of pandas' orientations `columns`, the default of to_json, and `index`."""
    numbers, *others = (list(cells) for cells in value.values())
    if numbers and all(number.isdigit() for number in numbers) and all(other == numbers for other in others):
        return [{column: cells[number] for column, cells in value.items()} for number in numbers]
    return list(value.values()) if all(key.isdigit() for key in value) else None


def _rows_of_lists(value: dict[str, Any]) -> list[Any] | None:
    """The rows of columns that are lists of equal length. Lists of objects, or of JSON texts, are parts of a chat."""
    columns = list(value.values())
    if len(columns) < 2 or not all(isinstance(column, list) and column for column in columns):
        return None
    if len({len(column) for column in columns}) > 1 or any(_is_part(item) for column in columns for item in column):
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def _is_part(item: Any) -> bool:
    return isinstance(item, dict) or (isinstance(item, str) and item.startswith("{"))


def flatten_squad(rows: list[Any]) -> Iterator[Any]:
    """One row per question of a SQuAD file, which nests questions in paragraphs in articles; other rows unchanged."""
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("paragraphs"), list):
            yield from _questions(row)
        else:
            yield row


def _questions(article: dict[str, Any]) -> Iterator[Any]:
    title = {"title": article["title"]} if "title" in article else {}
    for paragraph in article["paragraphs"]:
        questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(questions, list):
            yield paragraph
            continue
        context = {key: item for key, item in paragraph.items() if key != "qas"}
        for question in questions:
            yield {**title, **context, **_with_answer_texts(question)} if isinstance(question, dict) else question


def _with_answer_texts(question: dict[str, Any]) -> dict[str, Any]:
    """The question with its answers as `datasets` has them: `{"text": [...]}`."""
    answers = question.get("answers")
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        return question
    return {**question, "answers": {"text": [answer.get("text") for answer in answers]}}
