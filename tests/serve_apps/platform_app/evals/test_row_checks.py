"""Rows are checked before a run begins: what is wrong, and where; hostile schemas cost a limited time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.platform_app.evals.execution.row_checks import create_row_checker
from serve_apps.platform_app.evals.execution.rows import MAX_ROW_BYTES, check_rows, read_rows
from serve_apps.platform_app.evals.grading.model_calls import RunFailedError
from tuneyard.api.wire.platform_api.eval_runs import FileContent, FileId, JsonlDataSource, SourceRow

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}},
    "required": ["q"],
    "$defs": {"tag": {"enum": ["a", "b"]}},
}


def row_schema(item_schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"item": item_schema}, "required": ["item"]}


class OneFile:
    """A file service with one file, in blocks of `size` bytes."""

    def __init__(self, content: bytes, size: int = 7) -> None:
        self._blocks = [content[start : start + size] for start in range(0, len(content), size)]

    async def find(self, owner: str, file_id: str) -> str:
        return owner + file_id

    async def blocks(self, _: str) -> AsyncIterator[bytes]:
        for block in self._blocks:
            yield block


def of_file(content: bytes, size: int = 7) -> tuple[JsonlDataSource, str, Any]:
    return JsonlDataSource(type="jsonl", source=FileId(type="file_id", id="file-1")), "owner", OneFile(content, size)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b'{"item": {"q": "x", "tags": ["a"]}}', None),
        (b'{"item": {"q": "x"}, "sample": {"output_text": "y"}}', None),
        (b'{"item": {}}', "Row 6: item does not satisfy item_schema: 'q' is a required property."),
        (b'{"item": {"q": 1}}', "Row 6: item.q does not satisfy item_schema: 1 is not of type 'string'."),
        (b'{"item": {"q": "", "tags": ["c"]}}', "Row 6: item.tags.0 does not satisfy item_schema: 'c' is not one of"),
        (b'{"q": "x"}', 'it must be an object with the field "item"'),
        (b'{"item": [1]}', 'it must be an object with the field "item"'),
        (b'{"item": {"q": "x"}, "items": 1}', "it has the field 'items'"),
        (b'{"item": {"q": "x"}, "sample": "y"}', '"sample" must be an object'),
        (b'{"item": {"q": NaN}}', "it is not valid JSON (NaN is not a JSON number)"),
        (b'{"item": {"q": "\\ud800"}}', "it is not valid JSON"),
        (b"[" * 100_000, "it is not valid JSON"),
        (b"\xff", "it is not valid JSON"),
        (b"{", "it is not valid JSON"),
    ],
)
def test_a_wrong_row_is_named_with_its_problem(row: bytes, problem: str | None) -> None:
    found = create_row_checker(row_schema(SCHEMA), False)((3, [b'{"item": {"q": ""}}'] * 2 + [row]))
    assert (found is None) if problem is None else (found is not None and problem in found)


def test_graders_that_use_a_sample_need_one_in_each_row() -> None:
    found = create_row_checker(row_schema({}), True)((0, [b'{"item": {}, "sample": {}}', b'{"item": {}}']))
    assert found is not None
    assert found.startswith("Row 2: a grader uses {{ sample")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"$ref": "https://example.com/schema.json"}, "refers to 'https://example.com/schema.json', which it does not"),
        ({"$ref": "#/$defs/missing"}, "refers to"),
        ({"$ref": "#"}, "refers to itself without an end"),
    ],
)
def test_references_are_never_fetched_and_never_followed_without_end(schema: dict[str, Any], problem: str) -> None:
    found = create_row_checker(row_schema(schema), False)((0, [b'{"item": {}}']))
    assert found is not None
    assert problem in found


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"q": {"pattern": "^(a+)+$"}}},
        {
            "$ref": "#/$defs/0",
            "$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)} | {"40": {}},
        },
    ],
)
async def test_a_schema_that_takes_for_ever_ends_the_run(schema: dict[str, Any]) -> None:
    content = json.dumps({"item": {"q": "a" * 40 + "!"}}).encode()
    with pytest.raises(RunFailedError, match=r"takes too much time\. Simplify the schema"):
        await check_rows(*of_file(content), row_schema(schema), needs_sample=False, cpu_s=0.3)


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5), max_size=3), max_size=8),
    st.integers(1, 50),
    st.booleans(),
)
async def test_rows_are_read_whole_whatever_the_blocks(items: list[dict[str, str]], size: int, ends: bool) -> None:
    lines = [json.dumps({"item": item}).encode() for item in items]
    content = b"\r\n\n".join(lines) + (b"\n" if ends else b"")
    assert [json.loads(text)["item"] async for text in read_rows(*of_file(content, size))] == items


async def test_rows_that_are_too_long_or_missing_end_the_run() -> None:
    with pytest.raises(RunFailedError, match="Row 2 has more than 4,194,304 bytes"):
        await check_rows(
            *of_file(b'{"item": {}}\n' + b"x" * (MAX_ROW_BYTES + 1), 2**20), row_schema({}), needs_sample=False
        )
    with pytest.raises(RunFailedError, match="has no rows"):
        await check_rows(*of_file(b"\n \n"), row_schema({}), needs_sample=False)
    assert await check_rows(*of_file(b'{"item": {}}\n' * 3), row_schema({}), needs_sample=False) == 3


async def test_rows_of_the_request_keep_their_nulls() -> None:
    source = FileContent(type="file_content", content=[SourceRow(item={"a": None})])
    rows = read_rows(JsonlDataSource(type="jsonl", source=source), "", OneFile(b""))  # type: ignore[arg-type]
    assert [json.loads(text) async for text in rows] == [{"item": {"a": None}}]
