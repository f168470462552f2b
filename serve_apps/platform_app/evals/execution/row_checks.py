"""Checks the rows of a run, in a process of its own: a schema's patterns and references may take any time.

This module imports little, because the process starts with each run that begins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

Rows = tuple[int, Sequence[bytes]]
"""The number of the first row, from 0, and JSON texts of rows that follow each other."""


def create_row_checker(row_schema: Mapping[str, Any], needs_sample: bool) -> Callable[[Rows], str | None]:
    """The function that checks rows: it returns what is wrong with the first wrong one, None if all are right.

    `row_schema` is that of an object with `item`. `needs_sample`: the row must have a `sample` too.
    """
    item_schema = row_schema["properties"]["item"]
    # An empty registry: no reference is ever fetched.
    validator = Draft202012Validator(item_schema, registry=Registry())

    def check(rows: Rows) -> str | None:
        first, texts = rows
        for number, text in enumerate(texts, first):
            problem = _find_problem(text, validator, needs_sample=needs_sample)
            if problem is not None:
                return f"Row {number + 1}: {problem}."
        return None

    return check


def _find_problem(text: bytes, validator: Draft202012Validator, *, needs_sample: bool) -> str | None:
    try:
        row = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(row, ensure_ascii=False).encode()  # half of a surrogate pair is JSON, and no text
    except (ValueError, RecursionError) as e:
        return f"it is not valid JSON ({e})"
    if not isinstance(row, dict) or not isinstance(row.get("item"), dict):
        return 'it must be an object with the field "item", an object: {"item": {…}}'
    unknown = row.keys() - {"item", "sample"}
    if unknown:
        return f'it has the field {min(unknown)!r}; a row has "item", and "sample" for an answer that is there already'
    sample = row.get("sample")
    if sample is not None and not isinstance(sample, dict):
        return '"sample" must be an object'
    if needs_sample and sample is None:
        return 'a grader uses {{ sample… }}, and the row has no "sample"; add it, or let the run ask a model'
    return _schema_problem(row["item"], validator)


def _schema_problem(item: Any, validator: Draft202012Validator) -> str | None:
    try:
        error = next(iter(validator.iter_errors(item)), None)
    except Unresolvable as e:
        return f"item_schema refers to {e.ref!r}, which it does not define"
    except RecursionError:
        return "item_schema refers to itself without an end"
    if error is None:
        return None
    path = ".".join(["item", *(str(step) for step in error.absolute_path)])
    return f"{path} does not satisfy item_schema: {error.message[:300]}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
