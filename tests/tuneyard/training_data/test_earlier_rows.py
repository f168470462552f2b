"""Earlier rows: the table of hashes holds what a dict holds, and a source's last number is the row's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.training_data.earlier_rows import HashTable, row_number


@given(st.lists(st.tuples(st.integers(1, 2**64 - 1) | st.integers(1, 40), st.integers(0, 2**64 - 1)), max_size=3000))
def test_a_table_holds_the_first_value_of_each_key(pairs: list[tuple[int, int]]) -> None:
    table, expected = HashTable(), dict[int, int]()
    for key, value in pairs:
        assert table.get_or_add(key, value) == expected.get(key)
        expected.setdefault(key, value)


@pytest.mark.parametrize(
    ("source", "number"),
    [("chats.jsonl:17", 17), ("a:2/chats.json[3]", 3), ("data 4.csv:5", 5), ("chats.jsonl", 0), ("", 0)],
)
def test_the_number_of_a_row_is_the_last_of_its_source(source: str, number: int) -> None:
    assert row_number(source) == number
