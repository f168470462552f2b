"""CSV: every cell is text, whatever it spells; delimiters and headers as spreadsheets write them."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.chats.readers.csv_rows import read_csv
from tuneyard.core.errors import DatasetError

CELLS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), min_size=1, max_size=20),
    st.sampled_from(['{"name": "Morag"}', '["Wicken", "Holme"]', "[1", "null", "true", "1e5", '{"a": null}', "=1+1"]),
)


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4), delimiter=st.sampled_from(",;\t"))
def test_every_cell_is_its_text(rows: list[tuple[str, str]], delimiter: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([("prompt", "completion"), *rows])
    read = list(read_csv(io.BytesIO(text.getvalue().encode()), "t.csv"))
    assert [row.value for row in read] == [{"prompt": prompt, "completion": answer} for prompt, answer in rows]


def test_empty_cells_are_left_out_and_rows_have_their_line() -> None:
    rows = list(read_csv(io.BytesIO(b'a,b\n1,\n"x\ny",2\n1\n'), "t.csv"))
    assert [(row.where, row.value) for row in rows[:2]] == [
        ("t.csv:2", {"a": "1"}),
        ("t.csv:4", {"a": "x\ny", "b": "2"}),
    ]
    assert rows[2].problem == "the row has 1 field, the header has 2."


def test_a_header_that_names_a_column_twice_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"t.csv:1: the header names a column twice: prompt. Rename one of them"):
        list(read_csv(io.BytesIO(b"prompt,completion,prompt\na,b,c\n"), "t.csv"))
